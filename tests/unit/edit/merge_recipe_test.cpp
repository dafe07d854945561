// SPDX-License-Identifier: BSD-3-Clause
#include "ckpt/edit/merge_recipe.h"

#include "support/catch.h"

using namespace ckpt;

namespace {

RecipeSetting setting(std::string_view text) {
  auto parsed = parse_named_setting(text, MergeMethod::kTies);
  REQUIRE(parsed.ok());
  return std::move(parsed).value();
}

MergeRecipe recipe(MergeMethod method, std::initializer_list<std::string_view> settings) {
  MergeRecipe made;
  made.method = method;
  for (const auto text : settings) made.settings.push_back(setting(text));
  return made;
}

std::string problem(const MergeRecipe& recipe, std::size_t files) {
  const auto status = check_recipe(recipe, files);
  return status.ok() ? "" : status.error().message();
}

}  // namespace

TEST_CASE("a setting is a value, and perhaps a pattern of the keys that it is for", "[edit]") {
  CHECK(setting("density=0.5").parameter == MergeParameter::kDensity);
  CHECK_FALSE(setting("density=0.5").keys);
  CHECK(setting("layer4:epsilon=0.1").keys->text() == "layer4");
  CHECK(setting("re:a:b:epsilon=0.1").keys->text() == "re:a:b");
  CHECK(setting("=a=b:epsilon=0.1").keys->text() == "=a=b");
  CHECK(parse_setting(MergeParameter::kWeight, "=a=b=1,2")->keys->text() == "=a=b");
  CHECK(setting_value_text(setting("normalize=true")) == "yes");
  CHECK(setting_value_text(setting("rescale_by=[l1,density]")) == "[l1,density]");
  CHECK(parse_named_setting("density", MergeMethod::kTies).error().message() ==
        "'density': expected NAME=VALUE");
  CHECK(parse_named_setting("rescale_by=l2", MergeMethod::kTies).error().message() ==
        "'l2': expected l1 or density, found 'l2'");
  CHECK(parse_named_setting("re:(:t=1", MergeMethod::kTies).error().code() == ErrorCode::kUsage);
}

TEST_CASE("for a key the last setting that matches decides", "[edit]") {
  const auto made =
      recipe(MergeMethod::kTies, {"weight=1,2", "b:weight=3,4", "b.c:density=0.5", "lambda=[0,1]"});
  const auto a = made.parameters_for("a", 0.25, 3);
  CHECK(a.weights == std::vector<double>{1, 2});
  CHECK(a.densities == std::vector<double>{1, 1});
  CHECK(a[MergeParameter::kLambda] == 0.25);
  CHECK(a.flag(MergeParameter::kNormalize));
  const auto c = made.parameters_for("b.c", 1, 3);
  CHECK(c.weights == std::vector<double>{3, 4});
  CHECK(c.densities == std::vector<double>{0.5, 0.5});
  CHECK(c[MergeParameter::kLambda] == 1);
}

TEST_CASE("a recipe is checked against its method and the number of files", "[edit]") {
  CHECK(problem(recipe(MergeMethod::kMean, {}), 1).empty());
  CHECK(problem(recipe(MergeMethod::kLinear, {"weight=1,2"}), 2).empty());
  CHECK(problem(recipe(MergeMethod::kLinear, {"weight=1"}), 2) ==
        "weight has 1 value: 'linear' takes one for each of 2 files");
  CHECK(problem(recipe(MergeMethod::kTies, {"density=0.5"}), 4).empty());
  CHECK(problem(recipe(MergeMethod::kTies, {"density=0.5,0.4"}), 4) ==
        "density has 2 values: 'ties' takes one for each of 3 files around BASE");
  CHECK(problem(recipe(MergeMethod::kTies, {"lambda=1,2"}), 3) ==
        "lambda has 2 values: it is one for all files");
  CHECK(problem(recipe(MergeMethod::kTies, {"t=1"}), 3) == "'ties' has no parameter 't'");
  CHECK(problem(recipe(MergeMethod::kTies, {"density=-1"}), 3) ==
        "density is -1: expected a number from 0 to 1");
  CHECK(problem(recipe(MergeMethod::kKarcher, {"max_iter=1.5"}), 3) ==
        "max_iter is 1.5: expected a whole number from 0 to 1000000");
  CHECK(problem(recipe(MergeMethod::kTies, {"normalize=1"}), 3).empty());
  CHECK(problem(recipe(MergeMethod::kTies, {"normalize=0.5"}), 3) == "normalize is 0.5: expected yes or no");
  CHECK(problem(recipe(MergeMethod::kSlerp, {"a:t=1"}), 2) == "'slerp' needs t");
  CHECK(problem(recipe(MergeMethod::kModelStock, {}), 2) ==
        "'model-stock' merges at least 3 files, BASE among them, found 2");
  CHECK(problem(recipe(MergeMethod::kNearswap, {"t=0"}), 3) ==
        "'nearswap' merges 2 files, BASE among them, found 3");
}

TEST_CASE("what thins may differ from file to file, by key and over the layers", "[edit]") {
  const auto made = recipe(MergeMethod::kDella, {"epsilon=0.1,[0.2,0.4]", "b:epsilon=0.3"});
  CHECK(problem(made, 3).empty());
  CHECK(made.parameters_for("a", 0.5, 3).epsilons == std::vector<double>{0.1, 0.5 * 0.2 + 0.5 * 0.4});
  CHECK(made.parameters_for("b", 0.5, 3).epsilons == std::vector<double>{0.3, 0.3});
  const auto preset = recipe(MergeMethod::kDella, {}).parameters_for("a", 0, 3);
  CHECK(preset.epsilon(1) == 0.15);
  CHECK(recipe(MergeMethod::kBreadcrumbs, {"gamma=0.1,0.2"}).parameters_for("a", 0, 3).gamma(1) == 0.2);
  CHECK(problem(recipe(MergeMethod::kBreadcrumbsTies, {"gamma=0.1,0.2"}), 4) ==
        "gamma has 2 values: 'breadcrumbs-ties' takes one for each of 3 files around BASE");
  CHECK(problem(made, 2) == "epsilon has 2 values: 'della' takes one for each of 1 file around BASE");
  CHECK(problem(recipe(MergeMethod::kDellaLinear, {"epsilon=0.1,2"}), 3) ==
        "epsilon is 2: expected a number from 0 to 1");
  CHECK(problem(recipe(MergeMethod::kRam, {"epsilon=0.1,0.2"}), 3) ==
        "epsilon has 2 values: it is one for all files");
}

TEST_CASE("the r of adapters, which divides, can't be 0, that of ram-plus can", "[edit]") {
  CHECK(problem(recipe(MergeMethod::kLora, {"r=0"}), 2) == "r is 0: 'lora' divides by it");
  CHECK(problem(recipe(MergeMethod::kLora, {"r=-1"}), 2) == "r is -1: expected a number from 0");
  CHECK(problem(recipe(MergeMethod::kLora, {"r=0.5"}), 2).empty());
  CHECK(problem(recipe(MergeMethod::kRamPlus, {"r=0"}), 2).empty());
}

TEST_CASE("a method that may have a base has one if it is asked for", "[edit]") {
  auto made = recipe(MergeMethod::kNuslerp, {"weight=1,2"});
  CHECK(problem(made, 2).empty());
  CHECK_FALSE(problem(made, 3).empty());
  made.around_base = true;
  CHECK(problem(made, 3).empty());
  CHECK_FALSE(problem(made, 2).empty());
  auto mean = recipe(MergeMethod::kMean, {});
  mean.around_base = true;
  CHECK(problem(mean, 2) == "'mean' has no base: every file counts");
}

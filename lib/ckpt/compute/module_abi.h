// SPDX-License-Identifier: BSD-3-Clause
// What a module of ckpt offers the program that loads it: tables of C functions, found by one symbol a
// module.
//
// Rules of the border. A table begins with its size and version; what is added later stands at its end, and a
// user asks `size` whether it is there. Functions return a CkptCode, and where it is not CKPT_OK they have
// filled the CkptFailure, which is never null. No exception crosses. Handles belong to one thread at a time.
#ifndef CKPT_COMPUTE_MODULE_ABI_H
#define CKPT_COMPUTE_MODULE_ABI_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { CKPT_MODULE_ABI_VERSION = 1 };

typedef enum CkptCode {
  CKPT_OK = 0,
  CKPT_UNAVAILABLE = 1,  // no driver, no device, or not this one
  CKPT_NO_MEMORY = 2,    // the budget or the device has no room: smaller pieces may pass
  CKPT_UNSUPPORTED = 3,  // this module does not do that: somebody else may
  CKPT_FAILED = 4        // the device or its driver failed: the engine is of no more use
} CkptCode;

// What went wrong: one lower-case sentence without a full stop, in UTF-8.
typedef struct CkptFailure {
  char text[512];
} CkptFailure;

// Numbers of PyTorch's c10::ScalarType. Values that only move may be opaque: they have a size and no meaning.
typedef enum CkptDtype {
  CKPT_UINT8 = 0,
  CKPT_INT8 = 1,
  CKPT_INT16 = 2,
  CKPT_INT32 = 3,
  CKPT_INT64 = 4,
  CKPT_FLOAT16 = 5,
  CKPT_FLOAT32 = 6,
  CKPT_FLOAT64 = 7,
  CKPT_BOOL = 11,
  CKPT_BFLOAT16 = 15,
  CKPT_FLOAT8_E5M2 = 23,
  CKPT_FLOAT8_E4M3FN = 24,
  CKPT_FLOAT8_E5M2FNUZ = 25,
  CKPT_FLOAT8_E4M3FNUZ = 26,
  CKPT_UINT16 = 27,
  CKPT_UINT32 = 28,
  CKPT_UINT64 = 29,
  CKPT_FLOAT8_E8M0FNU = 44,
  CKPT_OPAQUE_1 = 101,  // an item of one byte, …
  CKPT_OPAQUE_2 = 102,
  CKPT_OPAQUE_4 = 104,
  CKPT_OPAQUE_8 = 108,
  CKPT_OPAQUE_16 = 116
} CkptDtype;

// ---- CkptTransfer: a GPU, its memory, and copies of values ----

typedef struct CkptEngine CkptEngine;              // one GPU with its streams and its ring of pinned buffers
typedef struct CkptHostBuffer CkptHostBuffer;      // pinned memory of the ring; the engine's
typedef struct CkptDeviceBuffer CkptDeviceBuffer;  // memory of the GPU, taken from the budget

typedef struct CkptDevice {
  char name[256];
  uint64_t memory_total;  // bytes
  uint64_t memory_free;
  int32_t capability_major;  // compute capability
  int32_t capability_minor;
  int32_t driver_version;  // as CUDA counts: 13000 is 13.0
  int32_t runtime_version;
} CkptDevice;

// Zeros mean what stands in brackets.
typedef struct CkptEngineOptions {
  uint32_t size;             // sizeof(CkptEngineOptions)
  int32_t device;            // ordinal
  uint64_t host_bytes;       // of one pinned buffer [32 MiB]
  uint32_t host_buffers;     // a direction [3]
  uint32_t budget_in_mille;  // of the free device memory [800]
} CkptEngineOptions;

typedef enum CkptDirection { CKPT_TO_DEVICE = 0, CKPT_TO_HOST = 1 } CkptDirection;

// Bytes of a device buffer from an offset on. The offset is a multiple of the items that lie there, up to 16.
typedef struct CkptView {
  CkptDeviceBuffer* buffer;
  uint64_t offset;  // bytes
} CkptView;

enum { CKPT_MAX_RANK = 8 };

// target[Σ i·to] = source[Σ i·from] for all i below `sizes`, converted: a strided view made dense, or a box
// of one tensor put into a box of another. No two elements of the target may coincide.
typedef struct CkptGather {
  CkptView source;
  CkptView target;
  uint32_t rank;  // 0: one element
  uint32_t swap;  // the source's numbers of so many bytes have the other byte order; 0 and 1: none have
  int32_t source_dtype;
  int32_t target_dtype;  // the same, or a conversion that `can_cast`
  uint64_t sizes[CKPT_MAX_RANK];
  uint64_t from[CKPT_MAX_RANK];  // strides in the source, elements
  uint64_t to[CKPT_MAX_RANK];    // strides in the target, elements
} CkptGather;

// Row r of the target becomes row table[r] of the source, and is left alone where that is negative.
typedef struct CkptRows {
  CkptView source;
  CkptView target;
  CkptView table;  // int64, one a row of the target; the caller has checked them
  uint64_t rows;
  uint64_t row_bytes;
  uint64_t source_step;  // bytes from row to row
  uint64_t target_step;
} CkptRows;

// What the GPU does runs on three streams: uploads, computation, downloads. Calls return at once; each waits,
// on the GPU, for whatever was asked for earlier of the buffers that it touches.
typedef struct CkptTransfer {
  uint32_t size;  // sizeof(CkptTransfer)
  uint32_t version;

  // CKPT_UNAVAILABLE says why there is none.
  CkptCode (*device_count)(int32_t* count, CkptFailure* failure);
  CkptCode (*describe_device)(int32_t ordinal, CkptDevice* device, CkptFailure* failure);

  CkptCode (*open_engine)(const CkptEngineOptions* options, CkptEngine** engine, CkptFailure* failure);
  // Waits for all that was asked for, then frees every buffer. Null is allowed.
  void (*close_engine)(CkptEngine* engine);

  // The next buffer of the ring, once the copy that used it last is done. The pointer is good for
  // `host_bytes`.
  CkptCode (*next_host_buffer)(CkptEngine* engine, CkptDirection direction, CkptHostBuffer** buffer,
                               void** data, CkptFailure* failure);
  // Waits until the copies into or out of the buffer are done.
  CkptCode (*wait_host_buffer)(CkptEngine* engine, CkptHostBuffer* buffer, CkptFailure* failure);
  uint64_t (*host_buffer_bytes)(const CkptEngine* engine);

  // Bytes that allocations may take in all; what of it is left.
  uint64_t (*budget)(const CkptEngine* engine);
  uint64_t (*budget_left)(const CkptEngine* engine);
  // Aligned to 256 bytes, not cleared.
  CkptCode (*allocate)(CkptEngine* engine, uint64_t bytes, CkptDeviceBuffer** buffer, CkptFailure* failure);
  // Waits for all that uses it. Null is allowed.
  void (*release)(CkptEngine* engine, CkptDeviceBuffer* buffer);
  // For kernels of others on `compute_stream`, between `begin_compute` and `end_compute`.
  void* (*device_address)(const CkptDeviceBuffer* buffer);

  CkptCode (*upload)(CkptEngine* engine, CkptHostBuffer* from, uint64_t offset, uint64_t bytes, CkptView to,
                     CkptFailure* failure);
  CkptCode (*download)(CkptEngine* engine, CkptView from, uint64_t bytes, CkptHostBuffer* to, uint64_t offset,
                       CkptFailure* failure);

  // 1 or 0. Every conversion is bit-equal to ckpt's on a processor.
  int32_t (*can_cast)(int32_t source_dtype, int32_t target_dtype);
  CkptCode (*gather)(CkptEngine* engine, const CkptGather* gather, CkptFailure* failure);
  CkptCode (*gather_rows)(CkptEngine* engine, const CkptRows* rows, CkptFailure* failure);

  // A cudaStream_t. Kernels of others that use buffers stand between these two calls, which name the buffers.
  void* (*compute_stream)(const CkptEngine* engine);
  CkptCode (*begin_compute)(CkptEngine* engine, CkptDeviceBuffer* const* buffers, size_t count,
                            CkptFailure* failure);
  CkptCode (*end_compute)(CkptEngine* engine, CkptDeviceBuffer* const* buffers, size_t count,
                          CkptFailure* failure);

  // Waits for everything that was asked for.
  CkptCode (*synchronize)(CkptEngine* engine, CkptFailure* failure);
} CkptTransfer;

// The symbol of libckpt_cuda.so; null for a version that it does not have.
#define CKPT_TRANSFER_SYMBOL "ckpt_transfer_module"
typedef const CkptTransfer* (*CkptTransferModule)(uint32_t version);

// ---- CkptKernels: arithmetic on stretches of tensors ----

// Values that lie one behind the other: a tensor, or a stretch of one.
typedef struct CkptValues {
  void* buffer;     // address in host memory, or of the device
  uint64_t offset;  // of the first value, in values
  uint64_t count;
  int32_t dtype;
  int32_t device;  // ordinal of the GPU, -1: host memory
} CkptValues;

// One fused pass over inputs of one length, each on the device of the target. x[j] is the j-th input, p are
// the parameters. Operations are those of ckpt/compute/merge_kernels.h, in its order, each rounded to
// `accumulate`; the result is rounded once, to the target's dtype. Where a kernel has changes, x[0] is the
// base and c[j] = x[j + 1] - x[0] a change, masked as the call says.
typedef enum CkptKernel {
  // combine
  CKPT_LINEAR = 1,          // p: a weight for each input, the divisor
  CKPT_TASK_SUM,            // p: a weight for each change, the divisor, lambda
  CKPT_CONSENSUS_BY_SUM,    // the same
  CKPT_CONSENSUS_BY_COUNT,  // the same
  CKPT_NEARSWAP,            // x[0], x[1]; p: t
  CKPT_RAM,                 // p: a factor for each change, epsilon
  CKPT_SCE,                 // p: a weight for each change
  CKPT_FUSE,                // x[0], x[1]; p: divergence, threshold
  // reduce, into sums of float64 within a bound that the count gives
  CKPT_GRAM = 101,      // inner products of x[i] and x[j], j <= i, at i (i + 1) / 2 + j
  CKPT_GRAM_OF_CHANGES  // the same of c[i] and c[j]
} CkptKernel;

typedef enum CkptMaskKind {
  CKPT_KEEP_ALL = 0,
  CKPT_KEEP_KEYS = 1,   // a value whose bits without the sign, as a number, are >= first and < second
  CKPT_KEEP_RANDOM = 2  // element i where random(first, i) < second, of 2^32
} CkptMaskKind;

// What of a change counts; the rest is 0. Then what is left is multiplied by `scale`, unless that is 1.
typedef struct CkptMask {
  int32_t kind;
  uint64_t first;
  uint64_t second;
  double scale;
} CkptMask;

typedef struct CkptKernelCall {
  uint32_t size;       // sizeof(CkptKernelCall)
  int32_t kernel;      // CkptKernel
  int32_t accumulate;  // CKPT_FLOAT64 or CKPT_FLOAT32
  int32_t target_dtype;
  const CkptValues* inputs;
  size_t input_count;
  const double* parameters;
  size_t parameter_count;
  const CkptMask* masks;  // none, or one for each change
  size_t mask_count;
  uint64_t first_element;  // which one of its tensor the stretch begins with; even
  void* stream;            // a cudaStream_t; null in host memory
} CkptKernelCall;

typedef struct CkptKernels {
  uint32_t size;  // sizeof(CkptKernels)
  uint32_t version;

  // 1 if the pass can be made, with results that are bit-equal to ckpt's own for `combine`. Looks at neither
  // buffers nor counts.
  int32_t (*supports)(const CkptKernelCall* call);
  // Fills the target, which may be one of the inputs. On a GPU it returns before that is done.
  CkptCode (*combine)(const CkptKernelCall* call, const CkptValues* target, CkptFailure* failure);
  // Fills `results`, as many as the kernel has, when it returns.
  CkptCode (*reduce)(const CkptKernelCall* call, double* results, size_t result_count, CkptFailure* failure);
} CkptKernels;

// The symbol of libckpt_torch.so; null for a version that it does not have. LibTorch is loaded already.
#define CKPT_KERNELS_SYMBOL "ckpt_kernels_module"
typedef const CkptKernels* (*CkptKernelsModule)(uint32_t version);

#ifdef __cplusplus
}
#endif

#endif

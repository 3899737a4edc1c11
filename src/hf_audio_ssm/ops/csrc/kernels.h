// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// The table of one instruction set's kernels, and what the driver hands to them.
#pragma once

#include <cstddef>

#include "calls.h"

namespace hf_audio_ssm {

// The rows that all channels of a direction share, as float32: time step inputs (only when projected), B and C.
struct SharedRows {
    const float* dt;
    const float* B;
    const float* C;
    int64_t dt_batch_stride, B_batch_stride, C_batch_stride;
    ptrdiff_t dt_row_stride, B_row_stride, C_row_stride;
};

// What a direction does with its share of the sum over the directions.
enum class Share {
    kStore,   // leave it in `partial`
    kAdd,     // add `partial`, then write the result
    kFinish,  // it is the whole sum: write the result
};

// Neighbouring blocks of one batch row and direction, which take turns chunk by chunk: their rows lie side by side in memory,
// and B and C are theirs together.
struct BlockTask {
    int64_t batch;
    int64_t block;   // the first of them
    int64_t blocks;  // at most kBlocksATask
    int64_t direction;
    Share share;
    float* partial;  // (blocks, length, 16), rows in time order
    float* scratch;  // of `*_scratch_floats`
};
constexpr int kBlocksATask = 4;

// A layer's weights as the kernels read them.
struct PackedLayer {
    const float* in_proj[2];
    const float* x_proj[2];
    const float* out_proj;
    const float* taps;
};

struct Kernels {
    const char* name;
    int64_t panel;  // columns of a packed weight's panel
    void (*widen)(const void* source, int64_t dtype, float* target, int64_t count);
    void (*narrow)(const float* source, int64_t dtype, void* target, int64_t count);
    void (*scan_blocks)(const ScanCall&, const SharedRows&, const BlockTask&);
    // Gates and writes the sum of both directions' `partial` of one batch row and block.
    void (*combine)(const ScanCall&, int64_t batch, int64_t block, const float* first, const float* second, float* scratch);
    // `shared_grads`: (length, rank or 0 + 2 * states), added to; `own_grads`: (states + rank or 0 + 2, 16) for each block,
    // `own_stride` apart, overwritten.
    void (*scan_blocks_backward)(
        const ScanCall&, const SharedRows&, const BlockTask&, float* shared_grads, float* own_grads, size_t own_stride);
    // Writes the sum of both directions' `partial` of the gate's gradient.
    void (*combine_gate_grads)(const ScanCall&, int64_t batch, int64_t block, const float* first, const float* second);
    // `taps` of the convolutions: (blocks, 2, kernel + 1, 16), tap `kernel` being the bias.
    void (*convolve_tile)(
        const ConvolutionCall&, int64_t batch, int64_t first_row, int64_t last_row, const float* taps, float* scratch);
    // `own_grads`: (2, kernel + 1, 16), overwritten.
    void (*convolve_block_backward)(
        const ConvolutionCall&, int64_t batch, int64_t block, const float* taps, float* scratch, float* own_grads);
    // One panel of `packed`, of `packed_floats`.
    void (*pack_panel)(const Linear&, int64_t panel, float* packed);
    // Rows first ... last - 1 of a layer before and after the scans.
    void (*begin_layer)(const LayerCall&, const PackedLayer&, int64_t batch, int64_t first, int64_t last, float* scratch);
    void (*end_layer)(const LayerCall&, const PackedLayer&, int64_t batch, int64_t first, int64_t last, float* scratch);
    void (*exp2)(const float* source, float* target, int64_t count);
};

// Null where neither the compiler nor the architecture has the instruction set.
const Kernels* kernels_avx512();
const Kernels* kernels_avx2();
const Kernels* kernels_baseline();

inline int64_t blocks_of(int64_t channels) { return (channels + kLanes - 1) / kLanes; }
inline int64_t chunks_of(int64_t length) { return (length + kChunk - 1) / kChunk; }
inline int64_t projected_rank(const ScanCall& call, int64_t direction) {
    return call.directions[direction].dt_weight ? call.rank : 0;
}

constexpr int kChunkFloats = kChunk * kLanes;
// Buffers a multiple of 4096 bytes apart would make the processor mistake a load for one of a recent store.
constexpr int kChunkBuffer = kChunkFloats + 3 * kLanes;
constexpr int kMaxGroup = 16;  // states that any instruction set keeps in registers at once

// Four buffers of a chunk (see scan.inc), then each block's A, state and time step's weight.
inline size_t scan_scratch_floats(const ScanCall& call) {
    return 4 * kChunkBuffer + kBlocksATask * (2 * call.states + call.rank) * kLanes;
}
// Ten buffers of a chunk, the chunk's states and decays, and each block's gradient with respect to the state besides.
inline size_t backward_scratch_floats(const ScanCall& call) {
    return 10 * kChunkBuffer + (2 * kChunk + 1) * kMaxGroup * kLanes +
           kBlocksATask * (3 * call.states + call.rank) * kLanes;
}
// Input rows with halos, and two gradients with halos.
inline size_t convolution_scratch_floats(const ConvolutionCall& call) {
    return 3 * (kChunk + 2 * (call.kernel - 1)) * kLanes;
}

// Columns filled up to whole vectors, and a row of the bias.
inline size_t packed_floats(const Linear& linear) { return blocks_of(linear.columns) * kLanes * (linear.depth + 1); }
// Normalised and projected rows with halos, then the convolution's.
inline size_t layer_scratch_floats(const LayerCall& call, int64_t rows) {
    return (rows + 2 * (call.convolution.kernel - 1)) * (call.hidden_size + call.scan.channels) +
           convolution_scratch_floats(call.convolution);
}

}  // namespace hf_audio_ssm

// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// What a call brings along: plain structures of 8-byte fields, filled by the Python binding (cpu.py) field by field.
#pragma once

#include <cstdint>

namespace hf_audio_ssm {

// Channels are handled in blocks of 16 lanes, time steps in chunks of 64; both also shape the saved states.
constexpr int kLanes = 16;
constexpr int kChunk = 64;

enum Dtype : int64_t { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2 };

// (batch, length, features) with unit stride over the features; strides in elements.
struct Sequence {
    void* data;
    int64_t batch_stride;
    int64_t row_stride;
};

struct ScanDirection {
    Sequence x;
    Sequence dt;  // (batch, length, channels), or (batch, length, rank) when dt_weight is given
    Sequence B;
    Sequence C;
    const float* dt_weight;  // (channels, rank) or null
    const float* dt_bias;    // (channels,)
    const float* A;          // (channels, states)
    const float* D;          // (channels,)
    // Written by the backward pass, contiguous, shaped as the above; sequences in the call's dtype.
    void* grad_x;
    void* grad_dt;
    void* grad_B;
    void* grad_C;
    float* grad_dt_weight;
    float* grad_dt_bias;
    float* grad_A;
    float* grad_D;
};

struct ScanCall {
    int64_t batch;
    int64_t length;
    int64_t channels;
    int64_t states;
    int64_t rank;
    int64_t dtype;
    int64_t num_directions;
    int64_t reverse;  // the first direction runs from the last step to the first, the second the other way round
    int64_t threads;
    int64_t isa;
    double scale;
    Sequence gate;  // data may be null
    void* output;   // (batch, length, channels), contiguous
    float* saved;   // (directions, batch, blocks, chunks, states, 16) entry states of the chunks, or null
    Sequence grad;
    void* grad_gate;
    ScanDirection directions[2];
};

struct ConvolutionDirection {
    const float* weight;  // (channels, kernel)
    const float* bias;    // (channels,) or null
    void* output;         // (batch, length, channels), contiguous
    Sequence grad;
    float* grad_weight;
    float* grad_bias;
};

struct ConvolutionCall {
    int64_t batch;
    int64_t length;
    int64_t channels;
    int64_t kernel;
    int64_t dtype;
    int64_t threads;
    int64_t isa;
    Sequence x;
    void* grad_x;
    // The first is causal in time, the second anti-causal.
    ConvolutionDirection directions[2];
};

// A linear module: weight (columns, depth), contiguous, and bias (columns,) or null.
struct Linear {
    const float* weight;
    const float* bias;
    int64_t columns;
    int64_t depth;
};

// A whole layer in float32: output = residual + scale * mixer(norm(hidden_states)). The three are (batch, length, hidden_size),
// contiguous; `output` may be `residual`.
struct LayerCall {
    int64_t hidden_size;
    double eps;
    double scale;
    const float* hidden_states;
    const float* residual;
    float* output;
    const float* norm_weight;
    const float* norm_bias;
    Linear in_proj[2];  // what is convolved, and what gates
    Linear x_proj[2];
    Linear out_proj;
    ConvolutionCall convolution;  // without x; its outputs are the scan's x
    // No gate. dt, B and C are columns of one contiguous (batch, length, rank + 2 * states), written by x_proj. The output may be
    // the second direction's x.
    ScanCall scan;
};

}  // namespace hf_audio_ssm

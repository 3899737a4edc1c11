// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// The kernels against plain loops in double precision, without Python: for processors that are only emulated. Prints a line
// for each instruction set and ends with status 1 where an error is larger than float32 rounding.

#include <cmath>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "calls.h"

using namespace hf_audio_ssm;

extern "C" {
const char* hf_audio_ssm_isa_name(int64_t isa);
int hf_audio_ssm_scan_forward(const ScanCall* call);
int hf_audio_ssm_scan_backward(const ScanCall* call);
int hf_audio_ssm_convolution_forward(const ConvolutionCall* call);
int hf_audio_ssm_convolution_backward(const ConvolutionCall* call);
int hf_audio_ssm_layer(const LayerCall* call);
}

namespace {

using Values = std::vector<float>;
using Exact = std::vector<double>;
std::mt19937 generator(1);

Values draw(int64_t count, double shift = 0) {
    std::normal_distribution<float> normal(static_cast<float>(shift), 1);
    Values values(count);
    for (float& value : values) value = normal(generator);
    return values;
}
double error_of(const Values& values, const Exact& expected) {
    double largest = 1e-30, error = 0;
    for (size_t i = 0; i < values.size(); ++i) {
        largest = std::max(largest, std::fabs(expected[i]));
        const double difference = std::fabs(values[i] - expected[i]);
        error = difference <= error ? error : difference;  // NaN counts as an error
    }
    return error / largest;
}
double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

struct Shape {
    int64_t batch, length, channels, states, rank, directions, threads;
    bool gated, reverse;
};

struct Direction {
    Values x, dt, B, C, weight, bias, A, D;
    Values grad_x, grad_dt, grad_B, grad_C, grad_weight, grad_bias, grad_A, grad_D;
    Exact exact_x, exact_dt, exact_B, exact_C, exact_weight, exact_bias, exact_A, exact_D;
};

double check_scan(const Shape& s, int64_t isa) {
    const int64_t rows = s.batch * s.length, dt_width = s.rank ? s.rank : s.channels;
    const Values gate = draw(rows * s.channels), grad = draw(rows * s.channels);
    std::vector<Direction> directions(s.directions);
    Exact sums(rows * s.channels, 0.0);
    const double scale = 0.5;
    const auto gate_of = [&](int64_t i) { return s.gated ? gate[i] * sigmoid(gate[i]) : 1.0; };
    for (int64_t d = 0; d < s.directions; ++d) {
        Direction& own = directions[d];
        own.x = draw(rows * s.channels);
        own.dt = draw(rows * dt_width);
        own.B = draw(rows * s.states);
        own.C = draw(rows * s.states);
        own.weight = draw(s.channels * s.rank);
        own.bias = draw(s.channels, -2);
        own.A = draw(s.channels * s.states);
        for (float& value : own.A) value = -std::exp(value);
        own.D = draw(s.channels);
        const auto zeros = [](Values& values, Exact& exact, size_t count) { values.assign(count, NAN), exact.assign(count, 0); };
        zeros(own.grad_x, own.exact_x, own.x.size());
        zeros(own.grad_dt, own.exact_dt, own.dt.size());
        zeros(own.grad_B, own.exact_B, own.B.size());
        zeros(own.grad_C, own.exact_C, own.C.size());
        zeros(own.grad_weight, own.exact_weight, own.weight.size());
        zeros(own.grad_bias, own.exact_bias, own.bias.size());
        zeros(own.grad_A, own.exact_A, own.A.size());
        zeros(own.grad_D, own.exact_D, own.D.size());

        const bool backward = s.reverse != (d == 1);
        for (int64_t b = 0; b < s.batch; ++b) {
            for (int64_t c = 0; c < s.channels; ++c) {
                Exact states((s.length + 1) * s.states, 0.0), pre(s.length);
                const auto row_of = [&](int64_t i) { return b * s.length + (backward ? s.length - 1 - i : i); };
                for (int64_t i = 0; i < s.length; ++i) {
                    const int64_t row = row_of(i);
                    pre[i] = own.bias[c];
                    if (!s.rank) pre[i] += own.dt[row * s.channels + c];
                    for (int64_t r = 0; r < s.rank; ++r) pre[i] += double(own.weight[c * s.rank + r]) * own.dt[row * s.rank + r];
                    const double step = std::log1p(std::exp(pre[i])), x = own.x[row * s.channels + c];
                    double y = own.D[c] * x;
                    for (int64_t n = 0; n < s.states; ++n) {
                        const double before = states[i * s.states + n];
                        const double after = std::exp(step * own.A[c * s.states + n]) * before + step * x * own.B[row * s.states + n];
                        states[(i + 1) * s.states + n] = after;
                        y += after * own.C[row * s.states + n];
                    }
                    sums[row * s.channels + c] += y;
                }
                Exact lambda(s.states, 0.0);
                for (int64_t i = s.length - 1; i >= 0; --i) {
                    const int64_t row = row_of(i), at = row * s.channels + c;
                    const double g = scale * grad[at] * gate_of(at), step = std::log1p(std::exp(pre[i])), x = own.x[at];
                    double to_step = 0, to_input = 0;
                    for (int64_t n = 0; n < s.states; ++n) {
                        const double A = own.A[c * s.states + n], decay = std::exp(step * A);
                        const double total = lambda[n] + g * own.C[row * s.states + n];
                        const double kept = total * decay * states[i * s.states + n];
                        own.exact_C[row * s.states + n] += g * states[(i + 1) * s.states + n];
                        own.exact_B[row * s.states + n] += total * step * x;
                        own.exact_A[c * s.states + n] += kept * step;
                        to_input += total * own.B[row * s.states + n];
                        to_step += kept * A;
                        lambda[n] = total * decay;
                    }
                    own.exact_x[at] += step * to_input + own.D[c] * g;
                    own.exact_D[c] += g * x;
                    const double to_pre = (to_step + to_input * x) * sigmoid(pre[i]);
                    own.exact_bias[c] += to_pre;
                    if (!s.rank) own.exact_dt[at] += to_pre;
                    for (int64_t r = 0; r < s.rank; ++r) {
                        own.exact_dt[row * s.rank + r] += to_pre * own.weight[c * s.rank + r];
                        own.exact_weight[c * s.rank + r] += to_pre * own.dt[row * s.rank + r];
                    }
                }
            }
        }
    }
    Exact exact_output(sums.size()), exact_gate(sums.size());
    for (size_t i = 0; i < sums.size(); ++i) {
        exact_output[i] = scale * sums[i] * gate_of(i);
        const double open = sigmoid(gate[i]);
        exact_gate[i] = scale * sums[i] * grad[i] * open * (1 + gate[i] * (1 - open));
    }

    const int64_t blocks = (s.channels + kLanes - 1) / kLanes, chunks = (s.length + kChunk - 1) / kChunk;
    Values output(sums.size(), NAN), grad_gate(sums.size(), NAN);
    Values saved(s.directions * s.batch * blocks * chunks * s.states * kLanes);
    ScanCall call = {};
    const auto sequence = [&](const Values& values, int64_t width) {
        return Sequence{const_cast<float*>(values.data()), s.length * width, width};
    };
    call.batch = s.batch, call.length = s.length, call.channels = s.channels, call.states = s.states, call.rank = s.rank;
    call.dtype = kFloat32, call.num_directions = s.directions, call.reverse = s.reverse, call.threads = s.threads;
    call.isa = isa, call.scale = scale;
    if (s.gated) call.gate = sequence(gate, s.channels);
    call.output = output.data(), call.saved = saved.data();
    call.grad = sequence(grad, s.channels);
    call.grad_gate = s.gated ? grad_gate.data() : nullptr;
    for (int64_t d = 0; d < s.directions; ++d) {
        Direction& own = directions[d];
        call.directions[d] = {
            sequence(own.x, s.channels), sequence(own.dt, dt_width), sequence(own.B, s.states), sequence(own.C, s.states),
            s.rank ? own.weight.data() : nullptr, own.bias.data(), own.A.data(), own.D.data(), own.grad_x.data(),
            own.grad_dt.data(), own.grad_B.data(), own.grad_C.data(), own.grad_weight.data(), own.grad_bias.data(),
            own.grad_A.data(), own.grad_D.data()};
    }
    if (hf_audio_ssm_scan_forward(&call) || hf_audio_ssm_scan_backward(&call)) return INFINITY;
    double worst = error_of(output, exact_output);
    if (s.gated) worst = std::max(worst, error_of(grad_gate, exact_gate));
    for (Direction& own : directions) {
        for (double error : {error_of(own.grad_x, own.exact_x), error_of(own.grad_dt, own.exact_dt),
                             error_of(own.grad_B, own.exact_B), error_of(own.grad_C, own.exact_C),
                             error_of(own.grad_weight, own.exact_weight), error_of(own.grad_bias, own.exact_bias),
                             error_of(own.grad_A, own.exact_A), error_of(own.grad_D, own.exact_D)}) {
            worst = error <= worst ? worst : error;
        }
    }
    return worst;
}

double check_convolution(int64_t batch, int64_t length, int64_t channels, int64_t kernel, int64_t isa) {
    const int64_t size = batch * length * channels;
    const Values x = draw(size);
    Values grad_x(size, NAN);
    Exact exact_x(size, 0.0);
    struct {
        Values weight, bias, output, grad, grad_weight, grad_bias;
        Exact exact_output, exact_weight, exact_bias;
    } directions[2];
    ConvolutionCall call = {};
    call.batch = batch, call.length = length, call.channels = channels, call.kernel = kernel, call.dtype = kFloat32;
    call.threads = 2, call.isa = isa, call.grad_x = grad_x.data();
    const auto sequence = [&](const Values& values) {
        return Sequence{const_cast<float*>(values.data()), length * channels, channels};
    };
    call.x = sequence(x);
    for (int d = 0; d < 2; ++d) {
        auto& own = directions[d];
        own.weight = draw(channels * kernel), own.bias = draw(channels), own.grad = draw(size);
        own.output.assign(size, NAN), own.grad_weight.assign(channels * kernel, NAN), own.grad_bias.assign(channels, NAN);
        own.exact_output.assign(size, 0), own.exact_weight.assign(channels * kernel, 0), own.exact_bias.assign(channels, 0);
        for (int64_t i = 0; i < size; ++i) {
            const int64_t c = i % channels, t = i / channels % length;
            double sum = own.bias[c];
            const auto source = [&](int64_t j) { return d == 0 ? t - (kernel - 1 - j) : t + (kernel - 1 - j); };
            const auto inside = [&](int64_t j) { return source(j) >= 0 && source(j) < length; };
            for (int64_t j = 0; j < kernel; ++j) {
                if (inside(j)) sum += double(own.weight[c * kernel + j]) * x[i + (source(j) - t) * channels];
            }
            const double open = sigmoid(sum), g = own.grad[i] * open * (1 + sum * (1 - open));
            own.exact_output[i] = sum * open;
            own.exact_bias[c] += g;
            for (int64_t j = 0; j < kernel; ++j) {
                if (!inside(j)) continue;
                own.exact_weight[c * kernel + j] += g * x[i + (source(j) - t) * channels];
                exact_x[i + (source(j) - t) * channels] += g * own.weight[c * kernel + j];
            }
        }
        call.directions[d] = {own.weight.data(), own.bias.data(), own.output.data(), sequence(own.grad),
                              own.grad_weight.data(), own.grad_bias.data()};
    }
    if (hf_audio_ssm_convolution_forward(&call) || hf_audio_ssm_convolution_backward(&call)) return INFINITY;
    double worst = error_of(grad_x, exact_x);
    for (auto& own : directions) {
        for (double error : {error_of(own.output, own.exact_output), error_of(own.grad_weight, own.exact_weight),
                             error_of(own.grad_bias, own.exact_bias)}) {
            worst = error <= worst ? worst : error;
        }
    }
    return worst;
}

// The convolutions and scans between the products are what the above checks: here they run by the same kernels.
double check_layer(int64_t batch, int64_t length, int64_t hidden, int64_t channels, int64_t threads, int64_t isa) {
    const int64_t rows = batch * length, states = 5, rank = 3, kernel = 4, width = rank + 2 * states;
    const double eps = 1e-5, scale = 0.25;
    const Values hidden_states = draw(rows * hidden), residual = draw(rows * hidden), norm_weight = draw(hidden);
    const auto draw_weight = [](int64_t columns, int64_t depth) {
        Values weight = draw(columns * depth);
        for (float& value : weight) value /= std::sqrt(static_cast<float>(depth));
        return weight;
    };
    const Values norm_bias = draw(hidden), in_weight = draw_weight(2 * channels, hidden), in_bias = draw(2 * channels);
    const Values out_weight = draw_weight(hidden, channels), out_bias = draw(hidden);
    struct {
        Values taps, bias, x_weight, dt_weight, dt_bias, A, D, x, projected;
    } directions[2];
    const auto product = [](const Values& inputs, int64_t count, int64_t depth, const float* weight, const float* bias, int64_t columns) {
        Values outputs(count * columns);
        for (int64_t i = 0; i < count * columns; ++i) {
            double sum = bias ? bias[i % columns] : 0;
            for (int64_t k = 0; k < depth; ++k) sum += double(inputs[i / columns * depth + k]) * weight[i % columns * depth + k];
            outputs[i] = static_cast<float>(sum);
        }
        return outputs;
    };
    Values normalized(hidden_states.size());
    for (int64_t row = 0; row < rows; ++row) {
        const float* values = hidden_states.data() + row * hidden;
        double mean = 0, variance = 0;
        for (int64_t k = 0; k < hidden; ++k) mean += values[k] / double(hidden);
        for (int64_t k = 0; k < hidden; ++k) variance += (values[k] - mean) * (values[k] - mean) / double(hidden);
        for (int64_t k = 0; k < hidden; ++k) {
            const double value = (values[k] - mean) / std::sqrt(variance + eps);
            normalized[row * hidden + k] = static_cast<float>(value * norm_weight[k] + norm_bias[k]);
        }
    }
    const Values x = product(normalized, rows, hidden, in_weight.data(), in_bias.data(), channels);
    const Values gate = product(
        normalized, rows, hidden, in_weight.data() + channels * hidden, in_bias.data() + channels, channels);

    LayerCall call = {};
    ConvolutionCall& convolution = call.convolution;
    ScanCall& scan = call.scan;
    const auto sequence = [&](const Values& values, int64_t features, int64_t first) {
        return Sequence{const_cast<float*>(values.data()) + first, length * features, features};
    };
    convolution.batch = batch, convolution.length = length, convolution.channels = channels, convolution.kernel = kernel;
    convolution.dtype = kFloat32, convolution.threads = threads, convolution.isa = isa, convolution.x = sequence(x, channels, 0);
    scan.batch = batch, scan.length = length, scan.channels = channels, scan.states = states, scan.rank = rank;
    scan.dtype = kFloat32, scan.num_directions = 2, scan.threads = threads, scan.isa = isa, scan.scale = 0.5;
    for (int d = 0; d < 2; ++d) {
        auto& own = directions[d];
        own.taps = draw(channels * kernel), own.bias = draw(channels), own.x_weight = draw_weight(width, channels);
        own.dt_weight = draw(channels * rank), own.dt_bias = draw(channels, -2), own.A = draw(channels * states);
        for (float& value : own.A) value = -std::exp(value);
        own.D = draw(channels), own.x.assign(rows * channels, NAN), own.projected.assign(rows * width, NAN);
        convolution.directions[d] = {own.taps.data(), own.bias.data(), own.x.data(), {}, nullptr, nullptr};
        scan.directions[d] = {
            sequence(own.x, channels, 0), sequence(own.projected, width, 0), sequence(own.projected, width, rank),
            sequence(own.projected, width, rank + states), own.dt_weight.data(), own.dt_bias.data(), own.A.data(), own.D.data(),
            nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr, nullptr};
        call.x_proj[d] = {own.x_weight.data(), nullptr, width, channels};
    }
    Values mixed(rows * channels, NAN), output(rows * hidden, NAN);
    scan.output = mixed.data();
    if (hf_audio_ssm_convolution_forward(&convolution)) return INFINITY;
    for (auto& own : directions) own.projected = product(own.x, rows, channels, own.x_weight.data(), nullptr, width);
    // The products have moved.
    for (int d = 0; d < 2; ++d) {
        const Values& projected = directions[d].projected;
        scan.directions[d].dt = sequence(projected, width, 0), scan.directions[d].B = sequence(projected, width, rank);
        scan.directions[d].C = sequence(projected, width, rank + states);
    }
    if (hf_audio_ssm_scan_forward(&scan)) return INFINITY;
    for (size_t i = 0; i < mixed.size(); ++i) mixed[i] = static_cast<float>(mixed[i] * gate[i] * sigmoid(gate[i]));
    const Values projected = product(mixed, rows, channels, out_weight.data(), out_bias.data(), hidden);
    Exact expected(projected.size());
    for (size_t i = 0; i < projected.size(); ++i) expected[i] = residual[i] + scale * projected[i];

    call.hidden_size = hidden, call.eps = eps, call.scale = scale;
    call.hidden_states = hidden_states.data(), call.residual = residual.data(), call.output = output.data();
    call.norm_weight = norm_weight.data(), call.norm_bias = norm_bias.data();
    call.in_proj[0] = {in_weight.data(), in_bias.data(), channels, hidden};
    call.in_proj[1] = {in_weight.data() + channels * hidden, in_bias.data() + channels, channels, hidden};
    call.out_proj = {out_weight.data(), out_bias.data(), hidden, channels};
    scan.output = directions[1].x.data();
    return hf_audio_ssm_layer(&call) ? INFINITY : error_of(output, expected);
}

}  // namespace

int main() {
    bool is_right = true;
    for (int64_t isa = 0; isa < 3; ++isa) {
        const char* name = hf_audio_ssm_isa_name(isa);
        if (!name) continue;
        double scan = 0, convolution = 0;
        for (const Shape& shape : {
                 Shape{1, 1, 1, 1, 0, 1, 1, false, false}, Shape{2, 70, 19, 16, 12, 2, 1, true, false},
                 Shape{3, 130, 33, 37, 5, 2, 3, true, true}, Shape{1, 64, 16, 64, 0, 2, 2, false, true},
                 Shape{2, 200, 40, 8, 24, 1, 2, true, true}, Shape{1, 2000, 5, 3, 2, 2, 2, true, false},
                 Shape{1, 300, 64, 16, 12, 2, 7, true, false}}) {
            const double error = check_scan(shape, isa);
            scan = error <= scan ? scan : error;
        }
        for (int64_t kernel = 1; kernel <= 5; ++kernel) {
            for (int64_t length : {1, 3, 64, 150}) {
                const double error = check_convolution(2, length, 21, kernel, isa);
                convolution = error <= convolution ? convolution : error;
            }
        }
        double layer = 0;
        for (int64_t length : {1, 7, 64, 300}) {
            for (int64_t hidden : {1, 21, 48, 100}) {
                const double error = check_layer(2, length, hidden, 2 * hidden - 1, 1 + length % 3, isa);
                layer = error <= layer ? layer : error;
            }
        }
        std::printf("%s: scan %.1e, convolution %.1e, layer %.1e\n", name, scan, convolution, layer);
        is_right &= scan < 2e-5 && convolution < 2e-5 && layer < 2e-5;
    }
    return is_right ? 0 : 1;
}

// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// The library's C interface: chooses the instruction set, divides the work among threads, sums what they share.

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#if defined(__x86_64__)
#include <immintrin.h>
#endif
#if defined(_OPENMP)
#include <omp.h>
#endif

#include "kernels.h"

namespace hf_audio_ssm {
namespace {

// In order of preference; a call's `isa` is an index, or -1 for the first that runs here.
constexpr int kNumIsas = 3;

const Kernels* kernels_of(int64_t isa) {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (isa == 0) {
        const bool runs = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
                          __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        return runs ? kernels_avx512() : nullptr;
    }
    if (isa == 1) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") ? kernels_avx2() : nullptr;
#endif
    return isa == 2 ? kernels_baseline() : nullptr;
}

const Kernels* best_kernels() {
    static const Kernels* const best = [] {
        const Kernels* found = nullptr;
        for (int64_t isa = 0; !found; ++isa) found = kernels_of(isa);
        return found;
    }();
    return best;
}

const Kernels* chosen_kernels(int64_t isa) { return isa < 0 ? best_kernels() : kernels_of(isa); }

// Subnormals count as 0 while a thread works on tasks: decayed states would otherwise cost microcode assists.
class FlushSubnormals {
  public:
#if defined(__x86_64__)
    FlushSubnormals() : before_(_mm_getcsr()) { _mm_setcsr(before_ | 0x8040u); }
    ~FlushSubnormals() { _mm_setcsr(before_); }

  private:
    unsigned before_;
#elif defined(__aarch64__)
    FlushSubnormals() {
        __asm__ volatile("mrs %0, fpcr" : "=r"(before_));
        __asm__ volatile("msr fpcr, %0" ::"r"(before_ | (uint64_t{1} << 24)));
    }
    ~FlushSubnormals() { __asm__ volatile("msr fpcr, %0" ::"r"(before_)); }

  private:
    uint64_t before_;
#else
    FlushSubnormals() {}
#endif
};

constexpr size_t kAlignment = 64;

struct Free {
    void operator()(void* memory) const { std::free(memory); }
};
using Memory = std::unique_ptr<float[], Free>;

Memory allocate(size_t floats) {
    if (floats == 0) return nullptr;
    void* memory = nullptr;
    if (posix_memalign(&memory, kAlignment, floats * sizeof(float))) throw std::bad_alloc();
    return Memory(static_cast<float*>(memory));
}

// Runs work(task, scratch) for every task, with `scratch_floats` of memory a thread; a static division, so that every run
// does the same. One thread opens no parallel region: that is what makes forked processes safe.
template <typename Work>
void parallel(int64_t threads, int64_t tasks, size_t scratch_floats, Work work) {
    threads = std::max<int64_t>(1, std::min(threads, tasks));
    scratch_floats = (scratch_floats + 15) / 16 * 16;
    const Memory scratch = allocate(scratch_floats * threads);
#if defined(_OPENMP)
    if (threads > 1) {
#pragma omp parallel num_threads(static_cast<int>(threads))
        {
            const FlushSubnormals flush;
            const int64_t thread = omp_get_thread_num(), team = omp_get_num_threads();
            for (int64_t task = thread * tasks / team; task < (thread + 1) * tasks / team; ++task) {
                work(task, scratch.get() + scratch_floats * thread);
            }
        }
        return;
    }
#endif
    const FlushSubnormals flush;
    for (int64_t task = 0; task < tasks; ++task) work(task, scratch.get());
}

// Whether dividing `tasks` evenly keeps nine tenths of the threads' time busy.
bool divides_well(int64_t tasks, int64_t threads) {
    const int64_t rounds = (tasks + threads - 1) / threads;
    return tasks * 10 >= rounds * threads * 9;
}

// As many neighbouring blocks a task as still keep the threads busy.
int64_t blocks_a_task(const ScanCall& call, int64_t threads) {
    const int64_t blocks = blocks_of(call.channels);
    int64_t count = kBlocksATask;
    while (count > 1 && !divides_well(call.batch * ((blocks + count - 1) / count), threads)) count /= 2;
    return count;
}

// Below this many state updates a thread, waking another costs more than it saves.
constexpr double kUpdatesPerThread = 100e3;

int64_t useful_threads(const ScanCall& call) {
    const double updates = static_cast<double>(call.batch) * call.length * call.channels * call.states * call.num_directions;
    return std::max<int64_t>(1, std::min<int64_t>(call.threads, static_cast<int64_t>(updates / kUpdatesPerThread)));
}

// The rows shared by all channels, widened once where they are not float32.
struct Shared {
    SharedRows rows[2] = {};
    Memory memory;
};

Shared share_rows(const ScanCall& call, const Kernels& kernels, int64_t threads) {
    Shared shared;
    if (call.dtype == kFloat32) {
        for (int64_t d = 0; d < call.num_directions; ++d) {
            const ScanDirection& from = call.directions[d];
            shared.rows[d] = {
                static_cast<const float*>(from.dt.data), static_cast<const float*>(from.B.data),
                static_cast<const float*>(from.C.data), from.dt.batch_stride, from.B.batch_stride, from.C.batch_stride,
                static_cast<ptrdiff_t>(from.dt.row_stride), static_cast<ptrdiff_t>(from.B.row_stride),
                static_cast<ptrdiff_t>(from.C.row_stride)};
        }
        return shared;
    }
    int64_t width[2] = {};
    size_t offset[2] = {}, total = 0;
    for (int64_t d = 0; d < call.num_directions; ++d) {
        width[d] = projected_rank(call, d) + 2 * call.states;
        offset[d] = total;
        total += static_cast<size_t>(call.batch * call.length * width[d]);
    }
    shared.memory = allocate(total);
    for (int64_t d = 0; d < call.num_directions; ++d) {
        const int64_t rank = projected_rank(call, d);
        const float* base = shared.memory.get() + offset[d];
        const int64_t batch_stride = call.length * width[d];
        const ptrdiff_t row_stride = width[d];
        shared.rows[d] = {base,         base + rank, base + rank + call.states, batch_stride, batch_stride,
                          batch_stride, row_stride,  row_stride,                row_stride};
    }
    const int64_t chunks = chunks_of(call.length);
    parallel(threads, call.num_directions * call.batch * chunks, 0, [&](int64_t task, float*) {
        const int64_t chunk = task % chunks, batch = task / chunks % call.batch, d = task / chunks / call.batch;
        const ScanDirection& from = call.directions[d];
        const int64_t rank = projected_rank(call, d);
        const int64_t last = std::min<int64_t>(call.length, (chunk + 1) * kChunk);
        for (int64_t time = chunk * kChunk; time < last; ++time) {
            float* target = shared.memory.get() + offset[d] + (batch * call.length + time) * width[d];
            const auto widen = [&](const Sequence& sequence, int64_t count) {
                const auto* row = static_cast<const uint16_t*>(sequence.data) + batch * sequence.batch_stride +
                                  time * sequence.row_stride;
                kernels.widen(row, call.dtype, target, count);
                target += count;
            };
            if (rank) widen(from.dt, rank);
            widen(from.B, call.states);
            widen(from.C, call.states);
        }
    });
    return shared;
}

void scan_forward(const ScanCall& call, const Kernels& kernels) {
    const int64_t blocks = blocks_of(call.channels), rows = call.batch * blocks;
    const int64_t threads = useful_threads(call), size = blocks_a_task(call, threads);
    const int64_t groups = (blocks + size - 1) / size, tasks = call.batch * groups;
    const size_t scratch = scan_scratch_floats(call), partial = static_cast<size_t>(call.length) * kLanes;
    const Shared shared = share_rows(call, kernels, threads);
    // `task` counts the groups of all batch rows.
    const auto run = [&](int64_t task, int64_t direction, Share share, float* sums, float* memory) {
        const int64_t first = task % groups * size;
        kernels.scan_blocks(
            call, shared.rows[direction],
            {task / groups, first, std::min(size, blocks - first), direction, share, sums, memory});
    };
    if (call.num_directions == 1) {
        parallel(threads, tasks, scratch, [&](int64_t task, float* memory) { run(task, 0, Share::kFinish, nullptr, memory); });
    } else if (divides_well(tasks, threads)) {
        parallel(threads, tasks, scratch + size * partial, [&](int64_t task, float* memory) {
            run(task, 0, Share::kStore, memory + scratch, memory);
            run(task, 1, Share::kAdd, memory + scratch, memory);
        });
    } else {
        // Each direction is a task: `size` is 1 here.
        const Memory sums = allocate(2 * rows * partial);
        parallel(threads, 2 * rows, scratch, [&](int64_t task, float* memory) {
            run(task % rows, task / rows, Share::kStore, sums.get() + task * partial, memory);
        });
        parallel(threads, rows, kChunkFloats, [&](int64_t row, float* memory) {
            kernels.combine(
                call, row / blocks, row % blocks, sums.get() + row * partial, sums.get() + (rows + row) * partial, memory);
        });
    }
}

// Sums the threads' shares of the gradients with respect to dt's inputs, B and C and writes them.
void write_shared_grads(
    const ScanCall& call, const Kernels& kernels, int64_t threads, int64_t groups, const float* grads,
    const int64_t (&width)[2], const size_t (&offset)[2]) {
    const int64_t chunks = chunks_of(call.length), widest = std::max(width[0], width[1]);
    parallel(threads, call.num_directions * call.batch * chunks, widest, [&](int64_t task, float* sums) {
        const int64_t chunk = task % chunks, batch = task / chunks % call.batch, d = task / chunks / call.batch;
        const ScanDirection& to = call.directions[d];
        const int64_t rank = projected_rank(call, d), element = call.dtype == kFloat32 ? 4 : 2;
        const int64_t last = std::min<int64_t>(call.length, (chunk + 1) * kChunk);
        for (int64_t time = chunk * kChunk; time < last; ++time) {
            const int64_t row = batch * call.length + time;
            const float* first = grads + offset[d] + static_cast<size_t>(batch * groups * call.length + time) * width[d];
            std::memcpy(sums, first, width[d] * sizeof(float));
            for (int64_t group = 1; group < groups; ++group) {
                const float* more = first + static_cast<size_t>(group * call.length) * width[d];
                for (int64_t i = 0; i < width[d]; ++i) sums[i] += more[i];
            }
            const auto write = [&](void* target, const float* values, int64_t count) {
                kernels.narrow(values, call.dtype, static_cast<char*>(target) + row * count * element, count);
            };
            if (rank) write(to.grad_dt, sums, rank);
            write(to.grad_B, sums + rank, call.states);
            write(to.grad_C, sums + rank + call.states, call.states);
        }
    });
}

// Sums the batch rows' gradients with respect to a direction's parameters and writes them.
void write_own_grads(const ScanCall& call, int64_t threads, const float* grads, size_t stride) {
    const int64_t blocks = blocks_of(call.channels), rows = call.batch * blocks;
    parallel(threads, call.num_directions * blocks, stride, [&](int64_t task, float* sums) {
        const int64_t direction = task / blocks, block = task % blocks;
        const ScanDirection& to = call.directions[direction];
        const int64_t states = call.states, rank = projected_rank(call, direction);
        std::memset(sums, 0, stride * sizeof(float));
        for (int64_t batch = 0; batch < call.batch; ++batch) {
            const float* more = grads + (direction * rows + batch * blocks + block) * stride;
            for (size_t i = 0; i < stride; ++i) sums[i] += more[i];
        }
        const int64_t channel = block * kLanes, lanes = std::min<int64_t>(kLanes, call.channels - channel);
        for (int64_t lane = 0; lane < lanes; ++lane) {
            const int64_t c = channel + lane;
            const float* value = sums + lane;
            for (int64_t n = 0; n < states; ++n, value += kLanes) to.grad_A[c * states + n] = *value;
            for (int64_t r = 0; r < rank; ++r, value += kLanes) to.grad_dt_weight[c * rank + r] = *value;
            to.grad_dt_bias[c] = value[0];
            to.grad_D[c] = value[kLanes];
        }
    });
}

void scan_backward(const ScanCall& call, const Kernels& kernels) {
    const int64_t blocks = blocks_of(call.channels), rows = call.batch * blocks, directions = call.num_directions;
    const int64_t threads = useful_threads(call);
    const size_t scratch = backward_scratch_floats(call), partial = static_cast<size_t>(call.length) * kLanes;
    const Shared shared = share_rows(call, kernels, threads);
    const bool gated = call.gate.data != nullptr;

    // A group of blocks adds to its own rows of shared gradients, so that no two threads write the same.
    const bool together = call.batch % threads == 0;
    const int64_t groups = together ? 1 : std::min(blocks, threads);
    const bool split = directions == 2 && !divides_well(call.batch * groups, threads);

    int64_t width[2] = {};
    size_t offset[2] = {}, total = 0, own_stride = 0;
    for (int64_t d = 0; d < directions; ++d) {
        width[d] = projected_rank(call, d) + 2 * call.states;
        offset[d] = total;
        total += static_cast<size_t>(call.batch * groups * call.length * width[d]);
        own_stride = std::max<size_t>(own_stride, (call.states + projected_rank(call, d) + 2) * kLanes);
    }
    const Memory shared_grads = allocate(total), own_grads = allocate(directions * rows * own_stride);
    const Memory gate_sums = allocate(gated && split ? 2 * rows * partial : 0);

    const auto run = [&](int64_t batch, int64_t group, int64_t first, int64_t last, float* memory) {
        for (int64_t d = first; d < last; ++d) {
            const size_t size = static_cast<size_t>(call.length * width[d]);
            std::memset(shared_grads.get() + offset[d] + (batch * groups + group) * size, 0, size * sizeof(float));
        }
        const int64_t end = (group + 1) * blocks / groups;
        for (int64_t block = group * blocks / groups; block < end; block += kBlocksATask) {
            const int64_t row = batch * blocks + block;
            for (int64_t d = first; d < last; ++d) {
                Share share = d == 0 ? Share::kStore : Share::kAdd;
                if (directions == 1) share = Share::kFinish;
                if (split) share = Share::kStore;
                float* sums = split ? gate_sums.get() + (gated ? (d * rows + row) * partial : 0) : memory + scratch;
                kernels.scan_blocks_backward(
                    call, shared.rows[d],
                    {batch, block, std::min<int64_t>(kBlocksATask, end - block), d, share, sums, memory},
                    shared_grads.get() + offset[d] +
                        static_cast<size_t>((batch * groups + group) * call.length * width[d]),
                    own_grads.get() + (d * rows + row) * own_stride, own_stride);
            }
        }
    };
    if (split) {
        const int64_t tasks = call.batch * groups;
        parallel(threads, 2 * tasks, scratch, [&](int64_t task, float* memory) {
            const int64_t d = task / tasks, rest = task % tasks;
            run(rest / groups, rest % groups, d, d + 1, memory);
        });
        if (gated) {
            parallel(threads, rows, 0, [&](int64_t row, float*) {
                kernels.combine_gate_grads(
                    call, row / blocks, row % blocks, gate_sums.get() + row * partial,
                    gate_sums.get() + (rows + row) * partial);
            });
        }
    } else {
        parallel(threads, call.batch * groups, scratch + kBlocksATask * partial, [&](int64_t task, float* memory) {
            run(task / groups, task % groups, 0, directions, memory);
        });
    }
    write_shared_grads(call, kernels, threads, groups, shared_grads.get(), width, offset);
    write_own_grads(call, threads, own_grads.get(), own_stride);
}

int64_t useful_threads(const ConvolutionCall& call) {
    // An output costs about as much as ten state updates.
    const double updates = static_cast<double>(call.batch) * call.length * call.channels * 20;
    return std::max<int64_t>(1, std::min<int64_t>(call.threads, static_cast<int64_t>(updates / kUpdatesPerThread)));
}

// Both directions' taps in lanes: see Kernels.
Memory pack_taps(const ConvolutionCall& call) {
    const int64_t kernel = call.kernel;
    const size_t size = blocks_of(call.channels) * 2 * (kernel + 1) * kLanes;
    Memory taps = allocate(size);
    std::memset(taps.get(), 0, size * sizeof(float));
    for (int64_t d = 0; d < 2; ++d) {
        const ConvolutionDirection& direction = call.directions[d];
        for (int64_t c = 0; c < call.channels; ++c) {
            float* own = taps.get() + ((c / kLanes * 2 + d) * (kernel + 1)) * kLanes + c % kLanes;
            for (int64_t j = 0; j < kernel; ++j) own[j * kLanes] = direction.weight[c * kernel + j];
            own[kernel * kLanes] = direction.bias ? direction.bias[c] : 0.0f;
        }
    }
    return taps;
}

void convolve_forward(const ConvolutionCall& call, const Kernels& kernels) {
    const int64_t tiles = chunks_of(call.length);
    const Memory taps = pack_taps(call);
    parallel(useful_threads(call), call.batch * tiles, convolution_scratch_floats(call), [&](int64_t task, float* memory) {
        const int64_t first = task % tiles * kChunk;
        kernels.convolve_tile(call, task / tiles, first, std::min<int64_t>(call.length, first + kChunk), taps.get(), memory);
    });
}

void convolve_backward(const ConvolutionCall& call, const Kernels& kernels) {
    const int64_t blocks = blocks_of(call.channels), rows = call.batch * blocks;
    const size_t stride = 2 * (call.kernel + 1) * kLanes;
    const Memory grads = allocate(rows * stride), taps = pack_taps(call);
    parallel(useful_threads(call), rows, convolution_scratch_floats(call), [&](int64_t row, float* memory) {
        kernels.convolve_block_backward(call, row / blocks, row % blocks, taps.get(), memory, grads.get() + row * stride);
    });
    for (int64_t c = 0; c < call.channels; ++c) {
        for (int64_t d = 0; d < 2; ++d) {
            const ConvolutionDirection& to = call.directions[d];
            for (int64_t k = 0; k <= call.kernel; ++k) {
                float sum = 0;
                for (int64_t batch = 0; batch < call.batch; ++batch) {
                    const float* own = grads.get() + (batch * blocks + c / kLanes) * stride;
                    sum += own[(d * (call.kernel + 1) + k) * kLanes + c % kLanes];
                }
                if (k < call.kernel) to.grad_weight[c * call.kernel + k] = sum;
                else to.grad_bias[c] = sum;
            }
        }
    }
}

// Memory that a block of a layer's rows may take: it stays in a core's second cache.
constexpr int64_t kLayerBlockBytes = 768 << 10;

void run_layer(const LayerCall& call, const Kernels& kernels) {
    const int64_t batch = call.scan.batch, length = call.scan.length, threads = useful_threads(call.scan);
    const Linear* linears[] = {&call.in_proj[0], &call.in_proj[1], &call.x_proj[0], &call.x_proj[1], &call.out_proj};
    Memory memory[5];
    int64_t first_panel[6] = {};
    for (int i = 0; i < 5; ++i) {
        memory[i] = allocate(packed_floats(*linears[i]));
        first_panel[i + 1] = first_panel[i] + (linears[i]->columns + kernels.panel - 1) / kernels.panel;
    }
    parallel(threads, first_panel[5], 0, [&](int64_t panel, float*) {
        int i = 0;
        while (panel >= first_panel[i + 1]) ++i;
        kernels.pack_panel(*linears[i], panel - first_panel[i], memory[i].get());
    });
    const Memory taps = pack_taps(call.convolution);
    const PackedLayer packed = {
        {memory[0].get(), memory[1].get()}, {memory[2].get(), memory[3].get()}, memory[4].get(), taps.get()};

    // Blocks of about equal size, as many as keep the threads busy.
    const int64_t row_bytes = sizeof(float) * (call.hidden_size + call.scan.channels);
    int64_t rows = std::max<int64_t>(kChunk, kLayerBlockBytes / row_bytes), blocks = (length + rows - 1) / rows;
    if (batch % threads != 0) blocks = (blocks + threads - 1) / threads * threads;
    rows = (length + blocks - 1) / blocks, blocks = (length + rows - 1) / rows;
    const auto run = [&](decltype(kernels.begin_layer) part) {
        parallel(threads, batch * blocks, layer_scratch_floats(call, rows), [&](int64_t task, float* scratch) {
            const int64_t first = task % blocks * rows;
            part(call, packed, task / blocks, first, std::min(length, first + rows), scratch);
        });
    };
    run(kernels.begin_layer);
    scan_forward(call.scan, kernels);
    run(kernels.end_layer);
}

enum Status : int { kDone = 0, kUnsupportedIsa = 1, kOutOfMemory = 2, kPositiveA = 3 };

int64_t isa_of(const ConvolutionCall& call) { return call.isa; }
int64_t isa_of(const ScanCall& call) { return call.isa; }
int64_t isa_of(const LayerCall& call) { return call.scan.isa; }

bool is_valid(const ConvolutionCall&) { return true; }

// The kernels' exponential relies on decays, and a growing state would be nonsense anyway.
bool is_valid(const ScanCall& call) {
    bool positive = false;
    for (int64_t d = 0; d < call.num_directions; ++d) {
        const float* A = call.directions[d].A;
        for (int64_t i = 0; i < call.channels * call.states; ++i) positive |= A[i] > 0.0f;
    }
    return !positive;
}

bool is_valid(const LayerCall& call) { return is_valid(call.scan); }

template <typename Call>
int guarded(const Call* call, void (*run)(const Call&, const Kernels&)) {
    const Kernels* kernels = chosen_kernels(isa_of(*call));
    if (!kernels) return kUnsupportedIsa;
    if (!is_valid(*call)) return kPositiveA;
    try {
        run(*call, *kernels);
    } catch (const std::bad_alloc&) {
        return kOutOfMemory;
    }
    return kDone;
}

}  // namespace
}  // namespace hf_audio_ssm

using namespace hf_audio_ssm;

#define EXPORT extern "C" __attribute__((visibility("default")))

// The structures' sizes, so that the binding notices when it and the library were not built from the same source.
EXPORT int64_t hf_audio_ssm_call_bytes(int kind) {
    const int64_t sizes[] = {sizeof(ScanCall), sizeof(ConvolutionCall), sizeof(LayerCall)};
    return sizes[kind];
}
// The instruction set's name, or null where it does not run; -1 asks for the one that is used by default.
EXPORT const char* hf_audio_ssm_isa_name(int64_t isa) {
    const Kernels* kernels = isa < kNumIsas ? chosen_kernels(isa) : nullptr;
    return kernels ? kernels->name : nullptr;
}
EXPORT int hf_audio_ssm_scan_forward(const ScanCall* call) { return guarded(call, scan_forward); }
EXPORT int hf_audio_ssm_scan_backward(const ScanCall* call) { return guarded(call, scan_backward); }
EXPORT int hf_audio_ssm_convolution_forward(const ConvolutionCall* call) { return guarded(call, convolve_forward); }
EXPORT int hf_audio_ssm_convolution_backward(const ConvolutionCall* call) { return guarded(call, convolve_backward); }
EXPORT int hf_audio_ssm_layer(const LayerCall* call) { return guarded(call, run_layer); }
// 2^x, as the scans compute it, for a multiple of 16 values.
EXPORT int hf_audio_ssm_exp2(const float* source, float* target, int64_t count, int64_t isa) {
    const Kernels* kernels = chosen_kernels(isa);
    if (!kernels) return kUnsupportedIsa;
    const FlushSubnormals flush;
    kernels->exp2(source, target, count);
    return kDone;
}

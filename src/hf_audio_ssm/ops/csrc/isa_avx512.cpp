// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0

#include "isa_prelude.h"

#if defined(__x86_64__)

#define WIDTH 16
#define ISA_NAMESPACE avx512
#define ISA_NAME "avx512"
#define ISA_KERNELS kernels_avx512

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif

#include "isa.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

const hf_audio_ssm::Kernels* hf_audio_ssm::kernels_avx512() { return nullptr; }

#endif

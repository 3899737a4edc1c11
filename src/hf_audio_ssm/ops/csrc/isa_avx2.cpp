// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0

#include "isa_prelude.h"

#if defined(__x86_64__)

#define WIDTH 8
#define ISA_NAMESPACE avx2
#define ISA_NAME "avx2"
#define ISA_KERNELS kernels_avx2

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#include "isa.inc"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else

const hf_audio_ssm::Kernels* hf_audio_ssm::kernels_avx2() { return nullptr; }

#endif

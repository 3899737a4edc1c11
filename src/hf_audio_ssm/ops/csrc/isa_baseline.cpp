// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// Whatever the architecture always has: SSE2 on x86-64, NEON on aarch64.

#include "isa_prelude.h"

#define WIDTH 4
#define ISA_NAMESPACE baseline
#define ISA_NAME "baseline"
#define ISA_KERNELS kernels_baseline

#include "isa.inc"

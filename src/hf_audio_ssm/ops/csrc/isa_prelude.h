// Copyright 2026 The hf-audio-ssm authors.
// SPDX-License-Identifier: Apache-2.0
//
// What an instruction set's source file includes before it changes the compiler's target.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <new>
#include <type_traits>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels.h"

#define INLINE __attribute__((always_inline)) inline
#define INLINED __attribute__((always_inline))  // behind the parameters of a lambda expression
#define NOINLINE __attribute__((noinline))

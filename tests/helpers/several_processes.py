# Copyright 2026 The hf-audio-ssm authors.
# SPDX-License-Identifier: Apache-2.0
"""How the tests launch several processes on one machine."""

# On a free port, by the loopback address: where a machine cannot look up its own name, torchrun would wait for minutes.
TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--local_addr", "127.0.0.1")

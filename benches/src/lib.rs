//! Benchmarks, side by side with the kernel and with peers.

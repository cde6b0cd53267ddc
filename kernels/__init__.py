"""What the CPU does: ops, SIMD helpers and the thread team. Imports nothing of slotmux above it."""

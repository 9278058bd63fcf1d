"""What raw kernels share: how many rows they take at once, and CUDA source for sums over the lanes of a warp."""

from __future__ import annotations

_TILE_BYTES, _MOST_ROWS = 160, 4  # accumulators that leave a thread registers enough, in float64 too


def tile(columns: int, itemsize: int) -> int:
    """Rows (or features) whose K accumulators each a thread keeps at once, at least one: what is read for one of them
    serves all."""
    return max(1, min(_MOST_ROWS, _TILE_BYTES // (columns * itemsize)))


# `add_lanes<N>(z, lane, low)` sums N values over the lanes whose numbers differ in the bits `low` to 16. A lane hands
# half of its values over in each round and keeps the other half: N/2 + N/4 + ... shuffles, not N a round. Afterwards
# z[0 .. ceil(N low / 32)) are sums, and `place_of<N>(j, lane, low)` says of which of the N values. Lanes that hold the
# same sum hold the same bits.
ADD_LANES = r"""
template <int N> __device__ __forceinline__ void add_lanes(T* z, int lane, int low) {
  #pragma unroll
  for (int o = 16; o >= low; o >>= 1) {
    const int n = (N + 16 / o - 1) / (16 / o);        // values before this round
    const bool upper = (lane & o) != 0;
    #pragma unroll
    for (int j = 0; j < N / 2; ++j) {                 // a bound that unrolls whatever the round
      if (j >= n / 2) continue;
      const T kept = upper ? z[2 * j + 1] : z[2 * j], given = upper ? z[2 * j] : z[2 * j + 1];
      z[j] = kept + __shfl_xor_sync(0xffffffffu, given, o);
    }
    if (n % 2) z[n / 2] = z[n - 1] + __shfl_xor_sync(0xffffffffu, z[n - 1], o);
  }
}
template <int N> __device__ __forceinline__ int place_of(int j, int lane, int low) {
  for (int o = low; o <= 16; o <<= 1) {
    const int n = (N + 16 / o - 1) / (16 / o);
    j = j < n / 2 ? 2 * j + ((lane & o) != 0) : n - 1;
  }
  return j;
}
"""

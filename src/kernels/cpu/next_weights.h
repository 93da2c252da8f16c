// Weights on their way from memory. A core has 16 outstanding lines for what it asks for itself,
// and twice as many for what its L2 prefetcher asks for, which follows streams within pages of
// 4 KiB. So what a worker reads next is fetched to L2 in eight streams, a little with every line
// that it works on, and from there to L1 shortly before use. One token's int8 experts take 96 % of
// the bandwidth that plain reads reach, with one stream 81 %.
#pragma once
#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/tile_ops.h"

namespace moestro::kernels::cpu {

// PanelCall::next to L2: a line at a time, or spread over `steps` calls of step(). Without
// branches, which would keep sums out of the registers of the loops around it: lines beyond the end
// lie in what follows, or are there already.
class NextWeights {
 public:
  NextWeights(const PanelCall& call, int64_t steps)
      : at_(reinterpret_cast<const char*>(call.next ? call.next : call.w->panel(call.panel))) {
    const int64_t bytes = call.next ? call.next_bytes : call.w->panel_bytes();
    streams_ = std::clamp<int64_t>(bytes / kPage, 1, kStreams);
    part_ = (bytes / streams_ + 63) / 64 * 64;
    back_ = 64 - (streams_ - 1) * part_;
    per_step_ = (part_ / 64 * streams_ + steps - 1) / std::max<int64_t>(1, steps);
  }

  void line() {
    _mm_prefetch(at_, _MM_HINT_T1);
    const bool last = ++stream_ == streams_;
    at_ += last ? back_ : part_;
    stream_ = last ? 0 : stream_;
  }
  void step() {
    for (int64_t i = 0; i < per_step_; ++i) line();
  }

 private:
  static constexpr int64_t kStreams = 8, kPage = 4096;
  const char* at_;
  int64_t streams_, part_, back_, per_step_, stream_ = 0;
};

// The same beside a panel that is read line after line, with the panel's own lines on to L1.
class PanelLines {
 public:
  explicit PanelLines(const PanelCall& call)
      : panel_(call.w->panel(call.panel)),
        next_(call.next),
        bytes_(call.w->panel_bytes()),
        further_(call, bytes_ / 64) {}

  // Before k-step `step`, then before each of its 32 lines.
  void start_step(int32_t step) {
    const int64_t at = step * tensor::kKStepBytes + kAhead;
    soon_ =
        reinterpret_cast<const char*>(next_ && at >= bytes_ ? next_ + (at - bytes_) : panel_ + at);
  }
  void line(int i) {
    _mm_prefetch(soon_ + i * 64, _MM_HINT_T0);
    further_.line();
  }

 private:
  static constexpr int64_t kAhead = 4096;
  const std::byte *panel_, *next_;
  int64_t bytes_;
  const char* soon_ = nullptr;
  NextWeights further_;
};

}  // namespace moestro::kernels::cpu

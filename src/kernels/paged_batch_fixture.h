// Test fixture: a batch of sequences over paged caches whose contents depend only on (sequence,
// position, element), never on page size or batch company. Pages are scattered; slots that no
// sequence owns hold NaN. Used by this folder's tests only.
#pragma once
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "kernels/kernel_list.h"
#include "kernels/step_input.h"
#include "platform/arena.h"
#include "platform/cpu_features.h"
#include "platform/gang.h"
#include "tensor/numeric.h"

namespace moestro::kernels::testing {

// A value in [-1, 1) from a counter (splitmix64).
inline float noise(uint64_t seed, uint64_t i) {
  uint64_t z = seed * 0x9e3779b97f4a7c15u + i * 0xd1342543de82ef95u + 0x2545f4914f6cdd1du;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  z ^= z >> 31;
  return static_cast<float>(static_cast<double>(z >> 11) * 0x1p-52 - 1.0);
}

struct SequenceSpec {
  uint64_t id;     // decides the contents
  int32_t past;    // tokens stored before this step
  int32_t tokens;  // of this step
};

// Content of element i at (sequence, position) of the cache or activation named by salt.
inline float content(uint64_t salt, uint64_t id, int32_t position, int32_t i) {
  return noise(salt * 1000003 + id,
               static_cast<uint64_t>(position) << 20 | static_cast<uint64_t>(i));
}

class PagedBatch {
 public:
  PagedBatch(std::vector<SequenceSpec> specs, int32_t page_size)
      : specs_(std::move(specs)), page_size_(page_size) {
    int32_t longest = 0, pages = 0;
    for (const SequenceSpec& s : specs_) {
      longest = std::max(longest, s.past + s.tokens);
      pages += (s.past + s.tokens + page_size - 1) / page_size;
    }
    num_pages_ = pages + 3;
    const int32_t stride = (longest + page_size - 1) / page_size + 1;
    block_tables_.assign(specs_.size() * static_cast<size_t>(stride), 0);
    // Step through the pages with a stride coprime to their number: neighbours in position are not
    // neighbours in memory.
    int32_t next = 1, jump = 7;
    while (std::gcd(jump, num_pages_) != 1) ++jump;
    query_start_.push_back(0);
    for (size_t s = 0; s < specs_.size(); ++s) {
      const SequenceSpec& spec = specs_[s];
      for (int32_t p = 0; p * page_size < spec.past + spec.tokens; ++p) {
        block_tables_[s * static_cast<size_t>(stride) + static_cast<size_t>(p)] = next;
        next = (next + jump) % num_pages_;
      }
      for (int32_t t = 0; t < spec.tokens; ++t) {
        positions_.push_back(spec.past + t);
        token_seq_.push_back(static_cast<int32_t>(s));
      }
      query_start_.push_back(static_cast<int32_t>(positions_.size()));
    }
    step_.num_tokens = static_cast<int32_t>(positions_.size());
    step_.num_seqs = static_cast<int32_t>(specs_.size());
    step_.positions = positions_.data();
    step_.token_seq = token_seq_.data();
    step_.query_start = query_start_.data();
    step_.block_tables = block_tables_.data();
    step_.block_table_stride = stride;
    longest_ = longest;
  }

  const StepInput& step() const { return step_; }
  int32_t tokens() const { return step_.num_tokens; }
  int32_t longest() const { return longest_; }
  const SequenceSpec& spec_of(int32_t token) const {
    return specs_[static_cast<size_t>(token_seq_[static_cast<size_t>(token)])];
  }

  // A filled cache. row_padding: bytes between rows.
  tensor::PagedView cache(uint64_t salt, int32_t width, DType dtype, int64_t row_padding = 0) {
    const int64_t size = dtype == DType::kF32 ? 4 : 2;
    tensor::PagedView view{nullptr, dtype, page_size_, width, width * size + row_padding, 0};
    view.block_bytes = view.row_bytes * page_size_ + row_padding;
    caches_.emplace_back(
        static_cast<size_t>(view.block_bytes) * static_cast<size_t>(num_pages_) + 64,
        std::byte{0xff});
    std::byte* data = caches_.back().data();
    view.data = data + (64 - reinterpret_cast<uintptr_t>(data) % 64) % 64;
    for (size_t s = 0; s < specs_.size(); ++s) {
      for (int32_t p = 0; p < specs_[s].past + specs_[s].tokens; ++p) {
        const int32_t page = block_tables_[s * static_cast<size_t>(step_.block_table_stride) +
                                           static_cast<size_t>(p / page_size_)];
        std::byte* row = view.row(page, p % page_size_);
        for (int32_t i = 0; i < width; ++i) {
          const float v = content(salt, specs_[s].id, p, i);
          const Bf16 b = to_bf16(v);
          if (dtype == DType::kF32)
            std::memcpy(row + 4 * static_cast<int64_t>(i), &v, 4);
          else
            std::memcpy(row + 2 * static_cast<int64_t>(i), &b, 2);
        }
      }
    }
    return view;
  }

  // Activations [tokens, width] of this step.
  std::vector<float> rows(uint64_t salt, int32_t width, float amplitude = 1) const {
    std::vector<float> out;
    for (int32_t t = 0; t < tokens(); ++t) {
      for (int32_t i = 0; i < width; ++i)
        out.push_back(amplitude *
                      content(salt, spec_of(t).id, positions_[static_cast<size_t>(t)], i));
    }
    return out;
  }

 private:
  std::vector<SequenceSpec> specs_;
  int32_t page_size_, num_pages_ = 0, longest_ = 0;
  std::vector<int32_t> positions_, token_seq_, query_start_, block_tables_;
  std::vector<std::vector<std::byte>> caches_;
  StepInput step_;
};

inline platform::Gang& gang_of(int num_workers) {
  static std::vector<std::unique_ptr<platform::Gang>> gangs(8);
  auto& gang = gangs[static_cast<size_t>(num_workers)];
  if (!gang) gang = std::make_unique<platform::Gang>(num_workers, false);
  return *gang;
}

template <class Shape, class Args>
void run_kernel(const Kernel<Shape, Args>& kernel, const Shape& shape, Args args, int num_workers) {
  auto scratch = platform::Buffer::allocate(
      static_cast<size_t>(kernel.scratch_bytes(shape, num_workers)) + 64);
  std::byte* data = scratch.value().data();
  std::fill_n(data, scratch.value().size(),
              std::byte{0xff});  // NaN: nothing may be read before it is written
  args.scratch = data;
  gang_of(num_workers).run([&](platform::Worker& w) { kernel.run(args, w); });
}

// Largest |a - b| over rows of `width`, relative to the largest |b| of the row; infinite if
// anything is not finite.
inline double row_error(const std::vector<float>& a, const std::vector<float>& b, int32_t width) {
  double worst = 0;
  for (size_t r = 0; r * static_cast<size_t>(width) < b.size(); ++r) {
    double difference = 0, size = 1e-30;
    for (size_t i = r * static_cast<size_t>(width); i < (r + 1) * static_cast<size_t>(width); ++i) {
      if (!std::isfinite(a[i])) return std::numeric_limits<double>::infinity();
      difference =
          std::max(difference, std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i])));
      size = std::max(size, std::fabs(static_cast<double>(b[i])));
    }
    worst = std::max(worst, difference / size);
  }
  return worst;
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

// Kernels needing an instruction set that this machine lacks are skipped by name, visibly.
#define MOESTRO_SKIP_UNLESS_ISA(kernel)                            \
  if (!::moestro::platform::detect_isa().contains((kernel).needs)) \
  GTEST_SKIP() << (kernel).name << " needs " << ::moestro::platform::isa_names((kernel).needs)

}  // namespace moestro::kernels::testing

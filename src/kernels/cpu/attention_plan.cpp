// See attention_plan.h. Baseline code: a few integer operations a tile.
#include "kernels/cpu/attention_plan.h"

#include <algorithm>

namespace moestro::kernels {
namespace {

constexpr int32_t kUnitsPerWorker = 3;  // fewer leave workers idle at the end
constexpr int64_t kMaxSlots = int64_t{1} << 17;

int64_t slots_for(int64_t heads, int64_t positions, int64_t segment, int num_workers) {
  // One token over the longest context, or many workers with a few segments each.
  const int64_t segments = (positions + segment - 1) / segment + 1;
  return std::min(kMaxSlots, std::max(heads * segments, int64_t{64} * 8 * num_workers));
}

}  // namespace

AttentionCall attention_call(const MlaArgs& a) {
  const int32_t width = a.latent + a.rope;
  return {a.step,         a.q,        static_cast<int64_t>(a.heads) * width,
          a.kv,           a.kv,       true,
          a.heads,        1,          width,
          a.latent,       a.scale,    0,
          nullptr,        a.selected, a.num_selected,
          a.max_selected, a.out,      a.scratch};
}

AttentionCall attention_call(const GqaArgs& a) {
  return {a.step,     a.q,        a.q_stride,   a.key,    a.value,  false,   a.heads,
          a.kv_heads, a.head_dim, a.v_head_dim, a.scale,  a.window, a.sinks, nullptr,
          nullptr,    0,          a.out,        a.scratch};
}

AttentionShape attention_shape(const MlaShape& s) {
  return {s.max_tokens, s.heads, 1, s.latent + s.rope, s.latent, s.max_context};
}

AttentionShape attention_shape(const GqaShape& s) {
  return {s.max_tokens, s.heads, s.kv_heads, s.head_dim, s.v_head_dim, s.max_context};
}

int64_t attention_slots(const AttentionShape& shape, const AttentionTuning& tuning,
                        int num_workers) {
  return slots_for(shape.heads, shape.max_context, tuning.segment, num_workers);
}

int64_t attention_slots(const AttentionCall& call, const AttentionTuning& tuning, int num_workers) {
  int32_t longest = 1;
  for (int32_t t = 0; t < call.step->num_tokens; ++t)
    longest = std::max(longest, call.step->positions[t] + 1);
  return slots_for(call.heads, longest, tuning.segment, num_workers);
}

AttentionPlan::AttentionPlan(const AttentionCall& call, const AttentionTuning& tuning,
                             int64_t slots, int num_workers)
    : call_(call),
      tuning_(tuning),
      slots_(slots),
      chunk_heads_(std::min(call.heads / call.kv_heads, tuning.tile_rows)) {
  const int32_t enough = kUnitsPerWorker * num_workers;
  if (num_workers == 1 || count_units(enough) >= enough) return;
  split_ = true;
  while (chunk_heads_ > tuning.least_heads && count_units(enough) < enough)
    chunk_heads_ = std::max(tuning.least_heads, (chunk_heads_ + 1) / 2);
}

int32_t AttentionPlan::tokens_of_tile(int32_t token) const {
  const StepInput& step = *call_.step;
  if (call_.is_sparse(token)) return 1;
  const int32_t limit = std::max(1, tuning_.tile_rows / chunk_heads_);
  int32_t n = 1;
  while (n < limit && token + n < step.num_tokens &&
         step.token_seq[token + n] == step.token_seq[token] && !call_.is_sparse(token + n))
    ++n;
  return n;
}

// The number of units, counted until there are enough.
int32_t AttentionPlan::count_units(int32_t enough) const {
  int32_t units = 0;
  Tiles tiles(*this);
  for (AttentionTile tile; units < enough && tiles.next(tile);)
    units += tile.slot >= 0 ? tile.num_segments : 1;
  return units;
}

bool AttentionPlan::Tiles::next(AttentionTile& tile) {
  const AttentionCall& call = plan_->call_;
  const int32_t group = call.heads / call.kv_heads;
  const int32_t chunks = (group + plan_->chunk_heads_ - 1) / plan_->chunk_heads_;
  if (num_tokens_ == 0 || chunk_ == chunks * call.kv_heads) {
    token_ += num_tokens_;
    chunk_ = 0;
    if (token_ >= call.step->num_tokens) return false;
    num_tokens_ = plan_->tokens_of_tile(token_);
  }
  const int32_t kv_head = chunk_ / chunks, first = chunk_ % chunks * plan_->chunk_heads_;
  ++chunk_;
  const int32_t last = token_ + num_tokens_ - 1;
  tile.token = token_;
  tile.num_tokens = num_tokens_;
  tile.kv_head = kv_head;
  tile.head = kv_head * group + first;
  tile.num_heads = std::min(plan_->chunk_heads_, group - first);
  tile.first_segment = call.first_index(token_) / plan_->tuning_.segment;
  tile.num_segments =
      (std::max(1, call.end_index(last)) - 1) / plan_->tuning_.segment + 1 - tile.first_segment;
  tile.slot = -1;
  const int64_t wanted = static_cast<int64_t>(tile.rows()) * tile.num_segments;
  if (plan_->split_ && tile.num_segments > 1 && slots_used_ + wanted <= plan_->slots_) {
    tile.slot = slots_used_;
    slots_used_ += wanted;
  }
  return true;
}

bool AttentionPlan::Units::seek(int64_t ticket, AttentionTile& tile, int32_t& segment) {
  while (!started_ || ticket >= first_ + count_) {
    started_ = true;
    first_ += count_;
    count_ = 0;
    if (!tiles_.next(tile_)) {
      if (split_pass_ || !plan_.any_split()) return false;
      split_pass_ = true;
      tiles_ = Tiles(plan_);
      continue;
    }
    if ((tile_.slot >= 0) == split_pass_) count_ = split_pass_ ? tile_.num_segments : 1;
  }
  tile = tile_;
  segment = split_pass_ ? static_cast<int32_t>(ticket - first_) : -1;
  return true;
}

}  // namespace moestro::kernels

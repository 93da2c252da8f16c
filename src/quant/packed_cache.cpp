#include "quant/packed_cache.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstring>

#include "base/digest.h"
#include "base/format.h"
#include "kernels/pack.h"

namespace moestro::quant {
namespace {

static_assert(std::endian::native == std::endian::little, "the file holds this machine's bytes");

constexpr uint64_t kMagic = 0x6b636170'74736f6d;  // "mostpack"
constexpr uint32_t kFormat = 1;
constexpr uint64_t kDataAlign = uint64_t{2} << 20;  // a huge page, where the file system has them
constexpr uint64_t kSlice = uint64_t{16} << 20;     // of what a worker reads at a time

struct Header {
  uint64_t magic = kMagic;
  uint32_t format = kFormat, packing = kernels::kPackingVersion;
  uint64_t file_bytes = 0, index_bytes = 0, data_begin = 0;
  uint64_t index_digest = 0, reserved = 0;
  uint64_t digest = 0;  // of the bytes before it
};
static_assert(sizeof(Header) == 64);

uint64_t up(uint64_t bytes, uint64_t unit) { return (bytes + unit - 1) / unit * unit; }

uint64_t digest_of_header(const Header& h) {
  return digest_of({reinterpret_cast<const std::byte*>(&h), offsetof(Header, digest)});
}

void add_number(std::string& to, uint64_t v) {
  std::array<char, 8> bytes;
  std::memcpy(bytes.data(), &v, bytes.size());
  to.append(bytes.data(), bytes.size());
}
void add_text(std::string& to, std::string_view text) {
  add_number(to, text.size());
  to += text;
}

// Takes values off the front; after one that is not there, ok() is false and all are empty.
class Reader {
 public:
  explicit Reader(std::string_view bytes) : left_(bytes) {}
  bool ok() const { return ok_; }
  bool at_end() const { return left_.empty(); }
  uint64_t number() {
    uint64_t v = 0;
    const std::string_view bytes = take(sizeof v);
    if (ok_) std::memcpy(&v, bytes.data(), sizeof v);
    return v;
  }
  std::string_view text() { return take(number()); }

 private:
  std::string_view take(uint64_t size) {
    if (size > left_.size()) ok_ = false;
    if (!ok_) return {};
    const std::string_view bytes = left_.substr(0, size);
    left_.remove_prefix(size);
    return bytes;
  }
  std::string_view left_;
  bool ok_ = true;
};

std::string index_text(const std::string& checkpoint, const std::vector<CachedWeight>& weights) {
  std::string index;
  add_text(index, checkpoint);
  add_number(index, weights.size());
  for (const CachedWeight& w : weights) {
    add_text(index, w.name);
    add_text(index, w.contents);
    add_number(index, w.bytes);
    add_number(index, w.offset);
    add_number(index, w.digest);
  }
  return index;
}

Status wrong_place(std::string_view name, std::string_view contents, size_t bytes) {
  return internal_error(
      format("weight {} ({}, {} bytes) was not listed before loading", name, contents, bytes));
}

const CachedWeight* find(const std::vector<CachedWeight>& weights,
                         const std::map<std::string_view, size_t>& index, std::string_view name,
                         std::string_view contents, size_t bytes) {
  const auto at = index.find(name);
  if (at == index.end()) return nullptr;
  const CachedWeight& w = weights[at->second];
  return w.contents == contents && w.bytes == bytes ? &w : nullptr;
}

// fn(begin, size) for slices of [begin, end) on all workers.
template <class Fn>
void for_slices(platform::Gang& gang, uint64_t begin, uint64_t end, const ByteProgress& progress,
                Fn fn) {
  gang.run([&](platform::Worker& worker) {
    worker.start_tickets();
    for (uint64_t at; (at = begin + static_cast<uint64_t>(worker.take_ticket()) * kSlice) < end;) {
      const uint64_t size = std::min(kSlice, end - at);
      fn(at, size);
      if (progress) progress(size);
    }
  });
}

// fn(i) for every weight on all workers.
template <class Fn>
void for_weights(platform::Gang& gang, const std::vector<CachedWeight>& weights,
                 const ByteProgress& progress, Fn fn) {
  gang.run([&](platform::Worker& worker) {
    worker.start_tickets();
    for (int64_t i; (i = worker.take_ticket()) < static_cast<int64_t>(weights.size());) {
      fn(static_cast<size_t>(i));
      if (progress) progress(weights[static_cast<size_t>(i)].bytes);
    }
  });
}

}  // namespace

uint64_t PackedCacheKey::layout_digest() const {
  std::string text;
  for (const ListedWeight& w : weights) {
    add_text(text, w.name);
    add_text(text, w.contents);
    add_number(text, w.bytes);
  }
  return fnv1a(text);
}

Result<std::shared_ptr<PackedCache>> PackedCache::open(const std::string& path,
                                                       const PackedCacheKey& key) {
  auto cache = std::make_shared<PackedCache>();
  cache->path_ = path;
  MOESTRO_ASSIGN(cache->map_, platform::MemoryMap::open(path));
  cache->base_ = cache->map_.bytes().data();
  MOESTRO_TRY(cache->read_header(key).with(path));
  return cache;
}

Status PackedCache::read_header(const PackedCacheKey& key) {
  const auto file = map_.bytes();
  Header h;
  if (file.size() < sizeof h) return data_loss("damaged: shorter than its header");
  std::memcpy(&h, file.data(), sizeof h);
  if (h.magic != kMagic) return data_loss("damaged: not a packed cache");
  if (h.digest != digest_of_header(h)) return data_loss("damaged: its header is not as written");
  if (h.format != kFormat || h.packing != kernels::kPackingVersion)
    return invalid_argument("stale: written by another version of moestro");
  if (h.file_bytes != file.size())
    return data_loss(format("damaged: {} bytes, its header says {}", file.size(), h.file_bytes));
  if (h.index_bytes > file.size() - sizeof h || h.data_begin > file.size() ||
      h.data_begin < sizeof h + h.index_bytes || h.data_begin % kDataAlign != 0)
    return data_loss("damaged: its index does not fit the file");
  const auto index = file.subspan(sizeof h, h.index_bytes);
  if (digest_of(index) != h.index_digest) return data_loss("damaged: its index is not as written");
  data_begin_ = h.data_begin;
  return read_index({reinterpret_cast<const char*>(index.data()), index.size()}, key);
}

Status PackedCache::read_index(std::string_view index, const PackedCacheKey& key) {
  Reader r(index);
  if (r.text() != key.checkpoint)
    return invalid_argument("stale: made from another state of the checkpoint");
  const uint64_t count = r.number(), end = file_bytes();
  if (count != key.weights.size())
    return invalid_argument(
        format("made for another plan: {} weights, this one has {}", count, key.weights.size()));
  weights_.reserve(key.weights.size());
  for (const ListedWeight& wanted : key.weights) {
    CachedWeight w{std::string(r.text()), std::string(r.text()), 0, 0, 0};
    w.bytes = r.number();
    w.offset = r.number();
    w.digest = r.number();
    if (!r.ok() || w.offset < data_begin_ || w.offset % 64 != 0 || w.offset > end ||
        w.bytes > end - w.offset)
      return data_loss("damaged: its index names places outside the file");
    if (w.name != wanted.name || w.contents != wanted.contents || w.bytes != wanted.bytes)
      return invalid_argument(format("made for another plan: {} is {} there, {} {} here", w.name,
                                     w.contents, wanted.name, wanted.contents));
    weights_.push_back(std::move(w));
  }
  if (!r.at_end()) return data_loss("damaged: its index is longer than its weights");
  for (size_t i = 0; i < weights_.size(); ++i) index_.emplace(weights_[i].name, i);
  return {};
}

Result<WeightStore::Place> PackedCache::place(std::string_view name, std::string_view contents,
                                              size_t bytes) {
  const CachedWeight* w = find(weights_, index_, name, contents, bytes);
  if (w == nullptr) return wrong_place(name, contents, bytes);
  return Place{base_ + (w->offset - base_offset_), nullptr};
}

uint64_t PackedCache::weight_bytes() const {
  uint64_t sum = 0;
  for (const CachedWeight& w : weights_) sum += w.bytes;
  return sum;
}

void PackedCache::populate(platform::Gang& gang, const ByteProgress& progress) const {
  for_slices(gang, data_begin_, file_bytes(), progress,
             [&](uint64_t at, uint64_t size) { map_.populate(at, size); });
}

Status PackedCache::copy_to_memory(platform::Gang& gang, const ByteProgress& progress) {
  MOESTRO_ASSIGN(memory_, platform::Buffer::allocate(file_bytes() - data_begin_));
  for_slices(gang, data_begin_, file_bytes(), progress, [&](uint64_t at, uint64_t size) {
    map_.populate(at, size);
    std::memcpy(memory_.data() + (at - data_begin_), map_.bytes().data() + at, size);
    map_.drop(at, size);
  });
  base_ = memory_.data();
  base_offset_ = data_begin_;
  return {};
}

Status PackedCache::verify(platform::Gang& gang, const ByteProgress& progress) const {
  std::atomic<size_t> first{weights_.size()};
  for_weights(gang, weights_, progress, [&](size_t i) {
    const CachedWeight& w = weights_[i];
    if (digest_of(map_.bytes().subspan(w.offset, w.bytes)) != w.digest)
      for (size_t seen = first.load(); i < seen && !first.compare_exchange_weak(seen, i);) {
      }
    map_.drop(w.offset, w.bytes);
  });
  if (first == weights_.size()) return {};
  return data_loss(format("{}: damaged: weight {} is not as written", path_, weights_[first].name));
}

Result<std::shared_ptr<PackedCacheWriter>> PackedCacheWriter::create(const std::string& path,
                                                                     const PackedCacheKey& key) {
  std::vector<CachedWeight> weights;
  for (const ListedWeight& w : key.weights) weights.push_back({w.name, w.contents, w.bytes, 0, 0});
  const uint64_t data_begin =
      up(sizeof(Header) + index_text(key.checkpoint, weights).size(), kDataAlign);
  uint64_t end = data_begin;
  for (CachedWeight& w : weights) {
    w.offset = end;
    end = up(end + w.bytes, 64);
  }
  MOESTRO_ASSIGN(platform::OutputFile file, platform::OutputFile::create(path, end));
  auto writer = std::shared_ptr<PackedCacheWriter>(new PackedCacheWriter(std::move(file)));
  writer->checkpoint_ = key.checkpoint;
  writer->weights_ = std::move(weights);
  writer->data_begin_ = data_begin;
  for (size_t i = 0; i < writer->weights_.size(); ++i)
    writer->index_.emplace(writer->weights_[i].name, i);
  return writer;
}

Result<WeightStore::Place> PackedCacheWriter::place(std::string_view name,
                                                    std::string_view contents, size_t bytes) {
  const CachedWeight* w = find(weights_, index_, name, contents, bytes);
  if (w == nullptr) return wrong_place(name, contents, bytes);
  return Place{file_.data() + w->offset, file_.data() + w->offset};
}

Status PackedCacheWriter::finish(platform::Gang& gang, const ByteProgress& progress) {
  for_weights(gang, weights_, progress, [&](size_t i) {
    CachedWeight& w = weights_[i];
    w.digest = digest_of({file_.data() + w.offset, static_cast<size_t>(w.bytes)});
  });
  const std::string index = index_text(checkpoint_, weights_);
  Header h;
  h.file_bytes = file_.size();
  h.index_bytes = index.size();
  h.data_begin = data_begin_;
  h.index_digest = digest_of(std::as_bytes(std::span(index)));
  h.digest = digest_of_header(h);
  std::memcpy(file_.data(), &h, sizeof h);
  std::memcpy(file_.data() + sizeof h, index.data(), index.size());
  return file_.publish();
}

}  // namespace moestro::quant

#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/format.h"
#include "base/json.h"
#include "base/strings.h"

namespace moestro::checkpoint {
namespace {

// Names come from the file: shortened and escaped before they reach a terminal.
std::string shown(std::string_view name) {
  constexpr size_t kShown = 200;
  if (name.size() <= kShown) return json::quote(name, true);
  return json::quote(repair_utf8(name.substr(0, kShown)) + "...", true);
}

std::optional<uint64_t> non_negative(const json::value& v) {
  if (v.is_int64() && v.get_int64() >= 0) return static_cast<uint64_t>(v.get_int64());
  if (v.is_uint64()) return v.get_uint64();
  return std::nullopt;
}

Result<std::vector<int64_t>> read_shape(const json::value* v) {
  if (!v) return data_loss("\"shape\" is missing");
  if (!v->is_array())
    return data_loss(format("\"shape\" must be an array, not {}", json::kind_name(*v)));
  const json::array& items = v->get_array();
  if (items.size() > kMaxTensorRank)
    return data_loss(format("\"shape\" has {} dimensions, more than the limit of {}", items.size(),
                            kMaxTensorRank));
  std::vector<int64_t> shape;
  for (const json::value& item : items) {
    const auto n = non_negative(item);
    if (!n)
      return data_loss(format("\"shape\" holds {}; every dimension must be a non-negative integer",
                              json::dump(item)));
    if (*n > static_cast<uint64_t>(kMaxTensorDimension))
      return data_loss(format("\"shape\" holds {}, more than the limit of 2^53", *n));
    shape.push_back(static_cast<int64_t>(*n));
  }
  return shape;
}

Status read_offsets(const json::value* v, uint64_t data_size, HeaderEntry& entry) {
  if (!v) return data_loss("\"data_offsets\" is missing");
  if (!v->is_array() || v->get_array().size() != 2)
    return data_loss("\"data_offsets\" must be an array of two integers [begin, end]");
  const auto begin = non_negative(v->get_array()[0]), end = non_negative(v->get_array()[1]);
  if (!begin || !end)
    return data_loss(
        format("\"data_offsets\" {} must be two non-negative integers", json::dump(*v)));
  if (*begin > *end)
    return data_loss(format("\"data_offsets\" begin {} is after end {}", *begin, *end));
  if (*end > data_size)
    return data_loss(format("\"data_offsets\" end {} is past the {} bytes of data in the file",
                            *end, data_size));
  entry.begin = *begin;
  entry.end = *end;
  return {};
}

// The number of bytes that shape and dtype need must be what the offsets give.
Status check_size(const HeaderEntry& entry) {
  if (!entry.dtype) return {};
  uint64_t total_bits = static_cast<uint64_t>(bits(*entry.dtype));
  for (const int64_t d : entry.shape)
    if (__builtin_mul_overflow(total_bits, static_cast<uint64_t>(d), &total_bits))
      return data_loss("the size that \"shape\" and \"dtype\" give overflows 64 bits");
  if (total_bits % 8)
    return data_loss(format("{} bits of {} are not whole bytes", total_bits, entry.dtype_text));
  if (total_bits / 8 != entry.end - entry.begin)
    return data_loss(format("\"shape\" and \"dtype\" need {} bytes but \"data_offsets\" give {}",
                            total_bits / 8, entry.end - entry.begin));
  return {};
}

Status read_entry(const json::value& v, uint64_t data_size, HeaderEntry& entry) {
  if (entry.name.size() > kMaxTensorNameBytes)
    return data_loss(format("the name has {} bytes, more than the limit of {}", entry.name.size(),
                            kMaxTensorNameBytes));
  if (!v.is_object()) return data_loss(format("must be an object, not {}", json::kind_name(v)));
  const json::object& o = v.get_object();
  const json::value* dtype = json::find(o, "dtype");
  if (!dtype) return data_loss("\"dtype\" is missing");
  if (!dtype->is_string())
    return data_loss(format("\"dtype\" must be a string, not {}", json::kind_name(*dtype)));
  entry.dtype_text = json::view(dtype->get_string());
  entry.dtype = from_safetensors(entry.dtype_text);
  MOESTRO_ASSIGN(entry.shape, read_shape(json::find(o, "shape")));
  MOESTRO_TRY(read_offsets(json::find(o, "data_offsets"), data_size, entry));
  return check_size(entry);
}

Status check_metadata(const json::value& v) {
  if (!v.is_object()) return data_loss(format("must be an object, not {}", json::kind_name(v)));
  for (const auto& [key, value] : v.get_object())
    if (!value.is_string())
      return data_loss(format("{} must be a string, not {}", shown({key.data(), key.size()}),
                              json::kind_name(value)));
  return {};
}

Status check_tiling(const std::vector<HeaderEntry>& entries, uint64_t data_size) {
  uint64_t at = 0;
  const HeaderEntry* last = nullptr;
  for (const HeaderEntry& e : entries) {
    if (e.begin < at)
      return data_loss(format("tensors {} and {} overlap at byte {} of the data", shown(last->name),
                              shown(e.name), e.begin));
    if (e.begin > at)
      return data_loss(format("no tensor covers bytes {} to {} of the data, before {}", at, e.begin,
                              shown(e.name)));
    at = e.end;
    last = &e;
  }
  if (at != data_size)
    return data_loss(
        format("{} trailing bytes follow the last tensor's end at {}", data_size - at, at));
  return {};
}

Result<json::object> parse_header_json(std::string_view text) {
  if (text.empty() || text.front() != '{') return data_loss("the header must begin with '{'");
  size_t end = text.size();
  while (end > 0 && text[end - 1] == ' ') --end;
  if (text[end - 1] != '}') return data_loss("the header must end with '}' and spaces only");
  auto parsed = json::parse(text, {.max_bytes = kMaxHeaderBytes, .max_depth = 4});
  if (!parsed.ok()) return data_loss(parsed.status().message());
  if (!parsed->is_object()) return data_loss("the header must be a JSON object");
  return std::move(parsed->get_object());
}

Result<std::vector<HeaderEntry>> parse(std::span<const std::byte> file) {
  if (file.size() < 8)
    return data_loss(format("{} bytes are too few for the 8-byte header length", file.size()));
  uint64_t length = 0;
  for (size_t i = 0; i < 8; ++i) length |= std::to_integer<uint64_t>(file[i]) << (8 * i);
  if (length > kMaxHeaderBytes)
    return data_loss(
        format("the header length {} is more than the limit of {} bytes", length, kMaxHeaderBytes));
  if (length > file.size() - 8)
    return data_loss(
        format("the header of {} bytes does not fit the file of {} bytes: the file is truncated",
               length, file.size()));
  MOESTRO_ASSIGN(const json::object header,
                 parse_header_json(
                     {reinterpret_cast<const char*>(file.data()) + 8, static_cast<size_t>(length)})
                     .with("header"));
  const uint64_t data_size = file.size() - 8 - length;
  std::vector<HeaderEntry> entries;
  entries.reserve(header.size());
  for (const auto& [key, value] : header) {
    HeaderEntry entry;
    entry.name.assign(key.data(), key.size());
    if (entry.name == "__metadata__") {
      MOESTRO_TRY(check_metadata(value).with("__metadata__"));
      continue;
    }
    MOESTRO_TRY(read_entry(value, data_size, entry).with(format("tensor {}", shown(entry.name))));
    entries.push_back(std::move(entry));
  }
  // (begin, end): zero-element tensors stand before the tensor that begins where they do.
  std::sort(entries.begin(), entries.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  MOESTRO_TRY(check_tiling(entries, data_size));
  for (HeaderEntry& e : entries) e.begin += 8 + length, e.end += 8 + length;
  return entries;
}

}  // namespace

Result<std::vector<HeaderEntry>> parse_safetensors_header(std::span<const std::byte> file,
                                                          std::string_view label) {
  return parse(file).with(label);
}

}  // namespace moestro::checkpoint

// The terminal form of an inspection.
#include <string>
#include <utility>

#include "base/format.h"
#include "base/strings.h"
#include "checkpoint/inspect.h"

namespace moestro::checkpoint {
namespace {

constexpr size_t kMaxKinds = 24;  // lines a list may take

void row(std::string& out, std::string_view name, std::string_view value) {
  out += format("{:<16}{}\n", name, value);
}

std::string plain(const json::value& v) {
  if (v.is_string()) return std::string(json::view(v.get_string()));
  return json::dump(v);
}

// "{a: 1, b: 2}" as "a 1, b 2".
std::string pairs(const json::object& o) {
  std::string out;
  for (const auto& [key, value] : o) {
    std::string name(key.data(), key.size());
    for (char& c : name)
      if (c == '_') c = ' ';
    out += (out.empty() ? "" : ", ") + name + " " + plain(value);
  }
  return out;
}

std::string billions(int64_t n) {
  const auto v = static_cast<double>(n);
  if (v >= 1e9) return format("{:.1f} B", v / 1e9);
  if (v >= 1e6) return format("{:.1f} M", v / 1e6);
  return format("{:.1f} K", v / 1e3);
}

void text_row(std::string& out, const json::object& o, std::string_view key,
              std::string_view title) {
  if (const json::value* v = json::find(o, key))
    row(out, title, v->is_object() ? pairs(v->get_object()) : plain(*v));
}

const json::object* child(const json::object& o, std::string_view key) {
  const json::value* v = json::find(o, key);
  return v ? v->if_object() : nullptr;
}

void sum_lines(std::string& out, std::string_view title, const json::object& sums) {
  size_t lines = 0;
  for (const auto& [key, value] : sums) {
    if (lines++ == kMaxKinds) {
      row(out, "", format("... and {} more", sums.size() - kMaxKinds));
      return;
    }
    const auto bytes = value.at("bytes").to_number<uint64_t>();
    row(out, lines == 1 ? title : "",
        format("{:>10}  {:>7} x  {}", human_bytes(bytes), value.at("tensors").to_number<int64_t>(),
               std::string_view(key.data(), key.size())));
  }
}

void quantization(std::string& out, const json::object& quant) {
  const json::value* key = json::find(quant, "key");
  row(out, "quantization", plain(quant.at("method")) + (key ? " (" + plain(*key) + ")" : ""));
  for (const json::value& group : quant.at("groups").as_array())
    row(out, "",
        format("{}: {}, {}", plain(group.at("name")), plain(group.at("format")),
               plain(group.at("scheme"))));
  if (const json::object* sums = child(quant, "quantized")) sum_lines(out, "  quantized", *sums);
  if (const json::object* sums = child(quant, "unquantized")) sum_lines(out, "  left as is", *sums);
}

}  // namespace

std::string inspection_text(const json::object& o) {
  std::string out;
  text_row(out, o, "location", "checkpoint");
  text_row(out, o, "model_type", "model type");
  text_row(out, o, "architecture", "architecture");
  if (const json::object* p = child(o, "parameters")) {
    const auto count = [&](std::string_view key) {
      return billions(p->at({key.data(), key.size()}).to_number<int64_t>());
    };
    row(out, "parameters",
        format("{} total, {} active a token, {} in draft layers", count("total"), count("active"),
               count("mtp")));
  }
  text_row(out, o, "dtype", "dtype");
  text_row(out, o, "context", "context");
  text_row(out, o, "sizes", "sizes");
  text_row(out, o, "layers", "layers");
  text_row(out, o, "experts", "experts");
  if (const json::object* w = child(o, "weights")) {
    row(out, "weights",
        format("{} in {} tensors, {} file{}", human_bytes(w->at("bytes").to_number<uint64_t>()),
               w->at("tensors").to_number<int64_t>(), w->at("files").to_number<int64_t>(),
               w->at("files").to_number<int64_t>() == 1 ? "" : "s"));
    sum_lines(out, "", w->at("dtypes").as_object());
  }
  if (const json::object* quant = child(o, "quantization")) quantization(out, *quant);
  if (const json::value* files = json::find(o, "tokenizer"); files && files->is_array()) {
    std::string names;
    for (const json::value& name : files->get_array())
      names += (names.empty() ? "" : ", ") + plain(name);
    row(out, "text files", names.empty() ? "none" : names);
  }
  const json::value* problems = json::find(o, "problems");
  if (problems && problems->is_array() && !problems->get_array().empty()) {
    bool first = true;
    for (const json::value& problem : problems->get_array())
      row(out, std::exchange(first, false) ? "problems" : "", plain(problem));
  } else {
    row(out, "problems", "none found");
  }
  return out;
}

}  // namespace moestro::checkpoint

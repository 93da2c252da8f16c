#include "quant/convert.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "base/format.h"
#include "base/strings.h"
#include "checkpoint/module_matcher.h"
#include "quant/fused_experts.h"
#include "quant/load.h"
#include "quant/scales.h"
#include "tensor/numeric.h"

namespace moestro::quant {
namespace {

namespace fs = std::filesystem;
using checkpoint::OutputTensor;
using checkpoint::TensorInfo;

// What happens to one tensor, or one module, of the source.
struct Item {
  std::string name;                  // of the tensor, or the module
  std::optional<ModuleSpec> module;  // read as floats; none: copied byte by byte
  bool quantized = false;            // else a module is written as bfloat16
  std::vector<OutputTensor> out;
};

uint64_t bytes_of(const Item& item) {
  uint64_t sum = 0;
  for (const OutputTensor& t : item.out) sum += t.bytes();
  return sum;
}

// Matrices that engines multiply in one call and that nvfp4 therefore gives one global scale.
constexpr std::array<std::array<std::string_view, 3>, 4> kFused = {{
    {"gate_proj", "up_proj", ""},
    {"w1", "w3", ""},
    {"q_proj", "k_proj", "v_proj"},
    {"q_a_proj", "kv_a_proj_with_mqa", ""},
}};

class Planner {
 public:
  explicit Planner(const ConvertRequest& r) : r_(r) {}

  Result<std::vector<Item>> plan(ConvertResult& result) {
    std::vector<std::string> entries = default_ignore(r_.scheme);
    entries.insert(entries.end(), r_.ignore.begin(), r_.ignore.end());
    MOESTRO_ASSIGN(
        ignored_,
        checkpoint::EntryList::compile(entries, checkpoint::EntryRule::kNames).with("--ignore"));
    std::vector<Item> items;
    for (const std::string& name : r_.source.names()) {
      MOESTRO_ASSIGN(const bool is_fused, split_fused(name, items, result));
      if (is_fused) continue;
      MOESTRO_ASSIGN(auto item, item_of(name, result));
      if (item) items.push_back(std::move(*item));
    }
    if (result.quantized == 0)
      return invalid_argument(
          format("{}: there is nothing to quantise: no linear layer is left beside those that are "
                 "ignored",
                 r_.files.location()));
    return items;
  }

 private:
  static bool is_side_tensor(std::string_view suffix) {
    for (const std::string_view s : {"weight_scale", "weight_scale_inv", "weight_zero_point",
                                     "weight_offset", "input_scale", "input_zero_point"})
      if (s == suffix) return true;
    return false;
  }

  // None: the tensor goes with another one.
  Result<std::optional<Item>> item_of(const std::string& name, ConvertResult& result) {
    const TensorInfo* info = r_.source.find(name);
    if (!info) return unsupported(format("tensor {} is of a type that cannot be copied", name));
    const size_t dot = name.rfind('.');
    const std::string module = name.substr(0, dot == std::string::npos ? 0 : dot);
    const std::string_view suffix =
        dot == std::string::npos ? std::string_view(name) : std::string_view(name).substr(dot + 1);
    for (const char* four_bit : {"weight_packed", "qweight", "weight_scale_2"})
      if (suffix == four_bit)
        return unsupported(
            format("{} is quantised already ({}); quantise the original", module, name));
    if (suffix.ends_with("_blocks") || suffix.ends_with("proj_packed"))
      return unsupported(format("{} is quantised already; quantise the original", name));
    if (is_side_tensor(suffix) && r_.source.has(module + ".weight")) return std::optional<Item>();
    const bool is_linear =
        suffix == "weight" && info->shape.size() == 2 && module.find("embed") == std::string::npos;
    if (!is_linear) {
      if (info->shape.size() > 2)
        result.notes.push_back(format("{} stays as it is: it is no matrix", name));
      return std::optional<Item>(copied(name, *info));
    }
    if (info->shape[0] > INT32_MAX || info->shape[1] > INT32_MAX)
      return unsupported(format("{}: its matrix is too large", module));
    return linear(module, static_cast<int32_t>(info->shape[0]),
                  static_cast<int32_t>(info->shape[1]), info, result);
  }

  // All experts of a layer in one tensor become a module each: what other engines read. False: the
  // tensor is nothing of the kind.
  Result<bool> split_fused(const std::string& name, std::vector<Item>& items,
                           ConvertResult& result) {
    const bool is_down = name.ends_with(".experts.down_proj");
    if (!is_down && !name.ends_with(".experts.gate_up_proj")) return false;
    const std::string experts = name.substr(0, name.rfind('.') + 1);
    const auto shape = fused_shape(r_.source, experts);
    if (!shape || !shape->is_output_major)
      return unsupported(format(
          "{} holds all experts of a layer {}; write the checkpoint with a module an expert", name,
          shape ? "in gpt_oss' layout, which engines read in MXFP4 or bfloat16 only"
                : "in no known layout"));
    for (int64_t e = 0; e < shape->experts; ++e)
      for (const std::string_view part : {"gate_proj", "up_proj", "down_proj"}) {
        if ((part == "down_proj") != is_down) continue;
        MOESTRO_ASSIGN(auto item,
                       linear(format("{}{}.{}", experts, e, part),
                              is_down ? shape->hidden : shape->intermediate,
                              is_down ? shape->intermediate : shape->hidden, nullptr, result));
        items.push_back(std::move(*item));
      }
    return true;
  }

  static Item copied(const std::string& name, const TensorInfo& info) {
    return {.name = name, .module = {}, .out = {{name, info.dtype, info.shape}}};
  }

  // info: of its own tensor; null: it is a part of one.
  Result<std::optional<Item>> linear(const std::string& module, int32_t n, int32_t k,
                                     const TensorInfo* info, ConvertResult& result) {
    MOESTRO_ASSIGN(ModuleSpec spec, make_module(r_.source, r_.quant, module, n, k, DType::kF32));
    const bool is_plain =
        info && !tensor::has_channel_scales(spec.format) && spec.substitution.empty();
    spec.format = tensor::PackedFormat::kF32;
    const std::string why_not = why_not_quantized(r_.scheme, n, k);
    const bool ignored = ignored_.matches(module);
    if (!ignored && why_not.empty()) {
      ++result.quantized;
      return std::optional<Item>(Item{.name = module,
                                      .module = std::move(spec),
                                      .quantized = true,
                                      .out = quantized_tensors(r_.scheme, module, n, k)});
    }
    result.left.push_back(module);
    if (!ignored) result.notes.push_back(format("{} stays as it is: {}", module, why_not));
    if (is_plain) return std::optional<Item>(copied(module + ".weight", *info));
    return std::optional<Item>(Item{.name = module,
                                    .module = std::move(spec),
                                    .out = {{module + ".weight", DType::kBF16, {n, k}}}});
  }

  const ConvertRequest& r_;
  checkpoint::EntryList ignored_;
};

// Items shard by shard, each at most the limit (or one item).
std::vector<std::vector<Item>> into_shards(std::vector<Item> items, uint64_t limit) {
  std::vector<std::vector<Item>> shards(1);
  uint64_t size = 0;
  for (Item& item : items) {
    const uint64_t bytes = bytes_of(item);
    if (size + bytes > limit && !shards.back().empty()) {
      shards.emplace_back();
      size = 0;
    }
    size += bytes;
    shards.back().push_back(std::move(item));
  }
  return shards;
}

std::vector<float> float_values(const LoadedMatrix& m, platform::Gang& gang) {
  const int32_t n = m.source.n, k = m.source.k;
  std::vector<float> out(static_cast<size_t>(n) * static_cast<size_t>(k));
  gang.run([&](platform::Worker& worker) {
    std::vector<std::byte> made;
    const auto [begin, end] = worker.share(n);
    for (int64_t c = begin; c < end; ++c) {
      const auto row = static_cast<int32_t>(c);
      const kernels::SourceMatrix s = m.rows(row, row + 1, made);
      for (int32_t i = 0; i < k; ++i)
        out[static_cast<size_t>(c * k + i)] = float_at(s.data, s.dtype, i);
    }
  });
  return out;
}

class Writer {
 public:
  Writer(const ConvertRequest& r, const fs::path& directory) : r_(r), directory_(directory) {}

  Status write(const std::vector<std::vector<Item>>& shards, ConvertResult& result) {
    json::object map;
    for (size_t i = 0; i < shards.size(); ++i) {
      const std::string name =
          shards.size() == 1 ? "model.safetensors"
                             : format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
      std::vector<OutputTensor> tensors;
      for (const Item& item : shards[i])
        for (const OutputTensor& t : item.out) {
          tensors.push_back(t);
          map[t.name] = name;
          result.bytes_written += t.bytes();
        }
      MOESTRO_ASSIGN(const auto file,
                     checkpoint::SafetensorsWriter::create((directory_ / name).native(), tensors));
      for (const Item& item : shards[i]) MOESTRO_TRY(write_item(item, *file));
      MOESTRO_TRY(file->finish());
    }
    if (shards.size() == 1) return {};
    const json::object index{{"metadata", json::object{{"total_size", result.bytes_written}}},
                             {"weight_map", std::move(map)}};
    return write_text("model.safetensors.index.json", json::dump(index, {.indent = 2}));
  }

  Status write_text(const std::string& name, std::string_view text) const {
    std::ofstream file(directory_ / name, std::ios::binary);
    file << text;
    file.close();
    if (file) return {};
    return internal_error(format("cannot write {}", (directory_ / name).native()));
  }

 private:
  Status write_item(const Item& item, checkpoint::SafetensorsWriter& file) {
    if (item.module) return write_module(item, file);
    const OutputTensor& t = item.out.front();
    MOESTRO_ASSIGN(const checkpoint::TensorView view,
                   r_.source.get(item.name, t.shape, std::span(&t.dtype, 1)));
    MOESTRO_TRY(file.append(view.bytes));
    r_.source.drop(view);
    if (r_.progress) r_.progress(view.bytes.size());
    return {};
  }

  Result<std::vector<float>> values_of(const ModuleSpec& spec, bool is_last_use) {
    MOESTRO_ASSIGN(const LoadedMatrix m, read_matrix(r_.source, spec));
    std::vector<float> values = float_values(m, r_.gang);
    if (!is_last_use) return values;
    for (const checkpoint::TensorView& t : m.tensors) {
      r_.source.drop(t);
      if (r_.progress) r_.progress(t.bytes.size());
    }
    return values;
  }

  // Of the module and those that run fused with it.
  Result<float> largest(const ModuleSpec& spec, const std::vector<float>& values) {
    float top = 0;
    for (const float v : values) top = std::max(top, std::fabs(v));
    const size_t dot = spec.module.rfind('.') + 1;
    const std::string_view last = std::string_view(spec.module).substr(dot);
    for (const auto& family : kFused) {
      if (std::find(family.begin(), family.end(), last) == family.end()) continue;
      for (const std::string_view other : family) {
        const std::string module = spec.module.substr(0, dot) + std::string(other);
        const TensorInfo* info = r_.source.find(module + ".weight");
        if (other.empty() || other == last || (info && info->shape.size() != 2)) continue;
        const auto fused = fused_expert(module);
        if (!info && !(fused && r_.source.has(fused->tensor))) continue;
        MOESTRO_ASSIGN(
            ModuleSpec sibling,
            make_module(r_.source, r_.quant, module,
                        info ? static_cast<int32_t>(info->shape[0]) : spec.n,
                        info ? static_cast<int32_t>(info->shape[1]) : spec.k, DType::kF32));
        sibling.format = tensor::PackedFormat::kF32;
        MOESTRO_ASSIGN(const std::vector<float> theirs, values_of(sibling, false));
        for (const float v : theirs) top = std::max(top, std::fabs(v));
      }
    }
    return top;
  }

  Status write_module(const Item& item, checkpoint::SafetensorsWriter& file) {
    const ModuleSpec& spec = *item.module;
    MOESTRO_ASSIGN(const std::vector<float> values, values_of(spec, true));
    for (const float v : values)
      if (!std::isfinite(v))
        return data_loss(format("{}: a weight is not a finite number", spec.module));
    float top = 0;
    if (item.quantized && r_.scheme.codes == CodeKind::kNvfp4) {
      MOESTRO_ASSIGN(top, largest(spec, values));
    }
    std::vector<std::vector<std::byte>> memory;
    for (const OutputTensor& t : item.out) memory.emplace_back(static_cast<size_t>(t.bytes()));
    const std::vector<std::span<std::byte>> parts(memory.begin(), memory.end());
    const int32_t tasks = (spec.n + kQuantizeRows - 1) / kQuantizeRows;
    r_.gang.run([&](platform::Worker& worker) {
      worker.start_tickets();
      for (int64_t i; (i = worker.take_ticket()) < tasks;) {
        const auto begin = static_cast<int32_t>(i) * kQuantizeRows,
                   end = std::min(begin + kQuantizeRows, spec.n);
        if (item.quantized) {
          quantize_rows(r_.scheme, values.data(), spec.n, spec.k, begin, end, top, parts);
          continue;
        }
        auto* out = reinterpret_cast<uint16_t*>(parts.front().data());
        for (int64_t at = int64_t{begin} * spec.k; at < int64_t{end} * spec.k; ++at)
          out[at] = to_bf16(values[static_cast<size_t>(at)]).bits;
      }
    });
    for (const auto& part : parts) MOESTRO_TRY(file.append(part));
    return {};
  }

  const ConvertRequest& r_;
  const fs::path& directory_;
};

// Tokenizer, templates, licences: everything that is neither weights nor a config written anew.
bool is_copied_file(std::string_view name) {
  for (const std::string_view end :
       {".safetensors", ".safetensors.index.json", ".bin", ".pt", ".pth", ".gguf", ".onnx", ".h5",
        ".msgpack", ".bin.index.json"})
    if (name.ends_with(end)) return false;
  for (const std::string_view same :
       {"config.json", "hf_quant_config.json", "quant_model_description.json"})
    if (name == same) return false;
  return true;
}

Status write_files(const ConvertRequest& r, const Writer& writer,
                   const std::vector<std::string>& left) {
  for (const std::string& name : r.files.list()) {
    if (!is_copied_file(name)) continue;
    MOESTRO_ASSIGN(const auto file, r.files.open(name));
    MOESTRO_TRY(writer.write_text(name, file->text()));
  }
  MOESTRO_ASSIGN(const auto file, r.files.open("config.json"));
  MOESTRO_ASSIGN(json::value config, json::parse(file->text()));
  if (!config.is_object()) return data_loss("config.json is not an object");
  json::object& o = config.get_object();
  o.erase("compression_config");
  o["quantization_config"] = quantization_config(r.scheme, left);
  if (json::value* text = o.if_contains("text_config"); text && text->is_object())
    for (const char* key : {"quantization_config", "compression_config"})
      text->get_object().erase(key);
  return writer.write_text("config.json", json::dump(config, {.indent = 2}) + "\n");
}

// A directory beside OUT, gone again unless it became OUT.
class Partial {
 public:
  static Result<std::unique_ptr<Partial>> create(const std::string& out) {
    std::error_code error;
    fs::path target = fs::absolute(out, error).lexically_normal();
    if (!target.has_filename()) target = target.parent_path();
    if (fs::exists(target, error) &&
        !(fs::is_directory(target, error) && fs::is_empty(target, error)))
      return invalid_argument(format("{} exists and is not an empty directory; name another", out));
    fs::create_directories(target.parent_path(), error);
    fs::path partial = target;
    partial += format(".partial-{}", static_cast<int64_t>(::getpid()));
    if (!fs::create_directory(partial, error))
      return internal_error(format("cannot create {}: {}", partial.native(), error.message()));
    return std::unique_ptr<Partial>(new Partial(std::move(target), std::move(partial)));
  }
  ~Partial() {
    std::error_code ignored;
    if (!done_) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }
  Status keep() {
    std::error_code error;
    fs::rename(path_, target_, error);  // replaces an empty directory
    if (error)
      return internal_error(
          format("cannot rename {} to {}: {}", path_.native(), target_.native(), error.message()));
    done_ = true;
    return {};
  }

 private:
  Partial(fs::path target, fs::path path) : target_(std::move(target)), path_(std::move(path)) {}
  fs::path target_, path_;
  bool done_ = false;
};

}  // namespace

Result<ConvertResult> convert_checkpoint(const ConvertRequest& request) {
  ConvertResult result;
  result.bytes_read = request.source.total_bytes();
  MOESTRO_ASSIGN(std::vector<Item> items, Planner(request).plan(result));
  MOESTRO_ASSIGN(const auto partial, Partial::create(request.out));
  Writer writer(request, partial->path());
  MOESTRO_TRY(writer.write(into_shards(std::move(items), request.max_shard_bytes), result));
  MOESTRO_TRY(write_files(request, writer, result.left));
  MOESTRO_TRY(partial->keep());
  return result;
}

}  // namespace moestro::quant

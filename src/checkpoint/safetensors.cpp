// The safetensors WeightSource: which shards there are, their headers, and views into their
// mappings.
#include <algorithm>
#include <cstring>
#include <optional>
#include <unordered_map>
#include <utility>

#include "base/digest.h"
#include "base/format.h"
#include "base/json.h"
#include "base/log.h"
#include "checkpoint/file_name.h"
#include "checkpoint/safetensors_header.h"
#include "checkpoint/weight_source.h"

namespace moestro::checkpoint {
namespace {

constexpr std::string_view kIndexNames[] = {"model.safetensors.index.json",
                                            "quant_model_weights.safetensors.index.json"};
constexpr size_t kMaxIndexBytes = size_t{256} << 20;

struct NameHash {
  using is_transparent = void;
  size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
};
template <class V>
using NameMap = std::unordered_map<std::string, V, NameHash, std::equal_to<>>;

struct Shard {
  std::string name;
  std::shared_ptr<const FileBytes> file;
};

struct Tensor {
  TensorInfo info;
  std::string dtype_text;  // for types that we do not know
  bool known = false;
  size_t shard = 0;
  uint64_t begin = 0;  // in the shard's file
};

std::string shape_text(std::span<const int64_t> shape) {
  std::string out = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i) out += ", ";
    out += shape[i] < 0 ? "any" : std::to_string(shape[i]);
  }
  return out + "]";
}

bool shape_fits(std::span<const int64_t> found, std::span<const int64_t> wanted) {
  return found.size() == wanted.size() &&
         std::equal(found.begin(), found.end(), wanted.begin(),
                    [](int64_t f, int64_t w) { return w < 0 || f == w; });
}

class Safetensors final : public WeightSource {
 public:
  using WeightSource::get;  // the overload with initializer lists
  Safetensors(std::string location, std::vector<Shard> shards, NameMap<Tensor> tensors)
      : location_(std::move(location)), shards_(std::move(shards)), tensors_(std::move(tensors)) {
    for (const auto& [name, tensor] : tensors_) total_ += tensor.info.bytes;
  }

  bool has(std::string_view name) const override { return tensors_.find(name) != tensors_.end(); }

  const TensorInfo* find(std::string_view name) const override {
    const auto it = tensors_.find(name);
    return it != tensors_.end() && it->second.known ? &it->second.info : nullptr;
  }

  std::vector<std::string> names() const override {
    std::vector<std::string> out;
    out.reserve(tensors_.size());
    for (const auto& [name, tensor] : tensors_) out.push_back(name);
    std::sort(out.begin(), out.end());
    return out;
  }

  Result<TensorView> get(std::string_view name, std::span<const int64_t> shape,
                         std::span<const DType> accepted) const override {
    const auto it = tensors_.find(name);
    if (it == tensors_.end())
      return data_loss(format("tensor {} is missing from {}", name, location_));
    const Tensor& t = it->second;
    const Shard& shard = shards_[t.shard];
    if (!t.known || std::find(accepted.begin(), accepted.end(), t.info.dtype) == accepted.end()) {
      std::string wanted;
      for (const DType d : accepted)
        wanted += (wanted.empty() ? "" : " or ") + std::string(safetensors_name(d));
      return data_loss(format("tensor {} in {}/{} has type {}, wanted {}", name, location_,
                              shard.name, json::quote(t.dtype_text, true), wanted));
    }
    if (!shape_fits(t.info.shape, shape))
      return data_loss(format("tensor {} in {}/{} has shape {}, wanted {}", name, location_,
                              shard.name, shape_text(t.info.shape), shape_text(shape)));
    return TensorView{t.info.dtype, t.info.shape,
                      shard.file->bytes().subspan(t.begin, t.info.bytes), nullptr};
  }

  void drop(const TensorView& tensor) const override {
    if (tensor.bytes.empty()) return;
    const std::less<const std::byte*> before;  // pointers into different mappings
    for (const Shard& shard : shards_) {
      const auto all = shard.file->bytes();
      if (before(tensor.bytes.data(), all.data()) ||
          !before(tensor.bytes.data(), all.data() + all.size()))
        continue;
      shard.file->drop(static_cast<size_t>(tensor.bytes.data() - all.data()), tensor.bytes.size());
      return;
    }
  }

  uint64_t total_bytes() const override { return total_; }

  std::string identity() const override {
    uint64_t h = fnv1a("");
    for (const Shard& shard : shards_) {
      const auto bytes = shard.file->bytes();
      if (shard.file->modified_ns() == 0) return {};
      h = fnv1a(format("{}\n{}\n{}\n", shard.name, bytes.size(), shard.file->modified_ns()), h);
      uint64_t header = 0;  // its size, the first eight bytes: checked when the shard was opened
      std::memcpy(&header, bytes.data(), sizeof header);
      h = fnv1a({reinterpret_cast<const char*>(bytes.data()), sizeof header + header}, h);
    }
    return hex(h);
  }

 private:
  std::string location_;
  std::vector<Shard> shards_;
  NameMap<Tensor> tensors_;
  uint64_t total_ = 0;
};

// Which file holds which tensor, by the index. Views point into the parsed JSON.
struct Index {
  std::string name;
  NameMap<std::string> file_of;
  std::vector<std::string> files;  // sorted
};

Result<Index> parse_index(const ModelFiles& files, std::string_view name) {
  MOESTRO_ASSIGN(const auto bytes, files.open(name));
  auto parsed = json::parse(bytes->text(), {.max_bytes = kMaxIndexBytes, .max_depth = 8});
  if (!parsed.ok()) return data_loss(parsed.status().message());
  const json::object* root = parsed->if_object();
  const json::value* map = root ? json::find(*root, "weight_map") : nullptr;
  if (!map || !map->is_object() || map->get_object().empty())
    return data_loss("\"weight_map\" must be an object that names a file for every tensor");
  Index index;
  index.name = name;
  for (const auto& [key, value] : map->get_object()) {
    const std::string_view tensor{key.data(), key.size()};
    if (!value.is_string())
      return data_loss(format("\"weight_map\": the file of {} must be a string, not {}",
                              json::quote(tensor, true), json::kind_name(value)));
    const std::string_view file = json::view(value.get_string());
    if (!is_plain_file_name(file))
      return data_loss(
          format("\"weight_map\": the file of {} is {}, which is not a plain file name",
                 json::quote(tensor, true), json::quote(file, true)));
    index.file_of.emplace(tensor, file);
    index.files.emplace_back(file);
  }
  std::sort(index.files.begin(), index.files.end());
  index.files.erase(std::unique(index.files.begin(), index.files.end()), index.files.end());
  return index;
}

Result<std::optional<Index>> read_index(const ModelFiles& files) {
  for (const std::string_view name : kIndexNames) {
    if (!files.contains(name)) continue;
    MOESTRO_ASSIGN(Index index,
                   parse_index(files, name).with(format("{}/{}", files.location(), name)));
    return std::optional<Index>(std::move(index));
  }
  return std::optional<Index>();
}

Result<std::vector<std::string>> shards_without_index(const ModelFiles& files) {
  if (files.contains("model.safetensors")) return std::vector<std::string>{"model.safetensors"};
  std::vector<std::string> found;
  for (const std::string& name : files.list())
    if (name.ends_with(".safetensors") && !name.starts_with("consolidated") &&
        !name.starts_with("adapter"))
      found.push_back(name);
  if (found.empty())
    return not_found(format("no weights in {}: looked for {}, model.safetensors and *.safetensors",
                            files.location(), kIndexNames[0]));
  return found;
}

// Multimodal wrappers put the language model under a prefix of its own.
std::string_view stripped(std::string_view name, std::string& buffer) {
  if (name.starts_with("language_model.")) return name.substr(15);
  if (name.starts_with("model.language_model."))
    return buffer = "model." + std::string(name.substr(21));
  return name;
}

class Opener {
 public:
  Opener(const ModelFiles& files, std::optional<Index> index)
      : files_(files), index_(std::move(index)) {}

  Result<std::unique_ptr<WeightSource>> open() {
    std::vector<std::string> names;
    if (index_) {
      names = index_->files;
    } else {
      MOESTRO_ASSIGN(names, shards_without_index(files_));
    }
    for (std::string& name : names) MOESTRO_TRY(add_shard(std::move(name)));
    if (index_) MOESTRO_TRY(check_mapped_tensors());
    if (surplus_ > 0)
      log_warning("{}: {} tensors of the shards are not in {} and are ignored, for example {}",
                  files_.location(), surplus_, index_->name, json::quote(surplus_example_, true));
    return std::unique_ptr<WeightSource>(
        std::make_unique<Safetensors>(files_.location(), std::move(shards_), std::move(tensors_)));
  }

 private:
  Status add_shard(std::string name) {
    const std::string label = format("{}/{}", files_.location(), name);
    auto file = files_.open(name);
    if (!file.ok())
      return index_ ? file.status().with(format("shard named by {}", index_->name)) : file.status();
    MOESTRO_ASSIGN(std::vector<HeaderEntry> entries,
                   parse_safetensors_header((*file)->bytes(), label));
    shards_.push_back({std::move(name), std::move(*file)});
    for (HeaderEntry& entry : entries) MOESTRO_TRY(add_tensor(std::move(entry)));
    return {};
  }

  Status add_tensor(HeaderEntry entry) {
    const std::string& shard = shards_.back().name;
    if (index_) {
      const auto mapped = index_->file_of.find(entry.name);
      if (mapped == index_->file_of.end() || mapped->second != shard) {
        if (surplus_++ == 0) surplus_example_ = entry.name;
        return {};
      }
      ++mapped_found_;
    }
    Tensor tensor;
    tensor.info = {entry.dtype.value_or(DType::kU8), std::move(entry.shape),
                   entry.end - entry.begin};
    tensor.known = entry.dtype.has_value();
    tensor.dtype_text = std::move(entry.dtype_text);
    tensor.shard = shards_.size() - 1;
    tensor.begin = entry.begin;
    std::string buffer;
    const auto [it, inserted] =
        tensors_.try_emplace(std::string(stripped(entry.name, buffer)), std::move(tensor));
    if (!inserted)
      return data_loss(format("tensor {} is in {} and again in {} of {}",
                              json::quote(entry.name, true), shards_[it->second.shard].name, shard,
                              files_.location()));
    return {};
  }

  Status check_mapped_tensors() const {
    if (mapped_found_ == index_->file_of.size()) return {};
    std::string buffer;
    for (const auto& [name, file] : index_->file_of) {
      const auto it = tensors_.find(stripped(name, buffer));
      if (it == tensors_.end() || shards_[it->second.shard].name != file)
        return data_loss(format("{}/{}: tensor {} is not in {}, the file that the index names",
                                files_.location(), index_->name, json::quote(name, true), file));
    }
    return {};
  }

  const ModelFiles& files_;
  std::optional<Index> index_;
  std::vector<Shard> shards_;
  NameMap<Tensor> tensors_;
  size_t mapped_found_ = 0, surplus_ = 0;
  std::string surplus_example_;
};

}  // namespace

Result<TensorView> WeightSource::get_part(std::string_view name, int64_t i,
                                          std::span<const int64_t> shape,
                                          std::span<const DType> accepted) const {
  std::vector<int64_t> whole{-1};
  whole.insert(whole.end(), shape.begin(), shape.end());
  MOESTRO_ASSIGN(TensorView t, get(name, whole, accepted));
  if (i < 0 || i >= t.shape.front())
    return data_loss(format("tensor {} has {} parts, wanted number {}", name, t.shape.front(), i));
  const size_t size = t.bytes.size() / static_cast<size_t>(t.shape.front());
  t.bytes = t.bytes.subspan(static_cast<size_t>(i) * size, size);
  t.shape.erase(t.shape.begin());
  return t;
}

Result<std::unique_ptr<WeightSource>> open_safetensors(std::shared_ptr<const ModelFiles> files) {
  MOESTRO_ASSIGN(std::optional<Index> index, read_index(*files));
  return Opener(*files, std::move(index)).open();
}

}  // namespace moestro::checkpoint

#include "plan/machine.h"

#include <algorithm>
#include <optional>

#include "base/format.h"
#include "base/strings.h"

namespace moestro::plan {
namespace {

// One object of the file: typed keys, and none that nobody reads.
class Keys {
 public:
  Keys(const json::object& object, std::string where) : object_(object), where_(std::move(where)) {}

  Result<std::string> text(std::string_view key) {
    known_.push_back(key);
    const json::value* v = json::find(object_, key);
    if (v == nullptr) return missing(key, "text");
    if (!v->is_string()) return wrong(key, *v, "text");
    return std::string(json::view(v->get_string()));
  }
  Result<int64_t> integer(std::string_view key, int64_t least, int64_t most,
                          std::optional<int64_t> fallback = std::nullopt) {
    known_.push_back(key);
    const json::value* v = json::find(object_, key);
    if (v == nullptr && fallback) return *fallback;
    if (v == nullptr) return missing(key, format("a number from {} to {}", least, most));
    const int64_t n = v->is_int64() ? v->get_int64() : least - 1;
    if (n < least || n > most)
      return wrong(key, *v, format("a whole number from {} to {}", least, most));
    return n;
  }
  // Null if it is not there; not an array: an error.
  Result<const json::array*> list(std::string_view key) {
    known_.push_back(key);
    const json::value* v = json::find(object_, key);
    if (v == nullptr) return static_cast<const json::array*>(nullptr);
    if (!v->is_array()) return wrong(key, *v, "a list");
    return &v->get_array();
  }
  Result<const json::object*> object(std::string_view key) {
    known_.push_back(key);
    const json::value* v = json::find(object_, key);
    if (v == nullptr) return missing(key, "an object");
    if (!v->is_object()) return wrong(key, *v, "an object");
    return &v->get_object();
  }
  Status nothing_else() const {
    for (const auto& item : object_) {
      const std::string_view key(item.key());
      if (std::find(known_.begin(), known_.end(), key) != known_.end()) continue;
      std::string all;
      for (const std::string_view k : known_) all += format("{}{}", all.empty() ? "" : ", ", k);
      return invalid_argument(format("{}{}: no such key; there are {}", where_, key, all));
    }
    return {};
  }
  std::string at(std::string_view key) const { return format("{}{}", where_, key); }

 private:
  Status missing(std::string_view key, std::string_view what) const {
    return invalid_argument(format("{}{} is missing: {}", where_, key, what));
  }
  Status wrong(std::string_view key, const json::value& found, std::string_view what) const {
    return invalid_argument(format("{}{}: {} is not {}", where_, key, json::dump(found), what));
  }
  const json::object& object_;
  std::string where_;
  std::vector<std::string_view> known_;
};

Result<platform::IsaSet> read_isa(Keys& keys) {
  MOESTRO_ASSIGN(const json::array* names, keys.list("isa"));
  if (names == nullptr)
    return invalid_argument(
        format("{} is missing: a list such as [\"avx2\", \"avx512\"]", keys.at("isa")));
  platform::IsaSet isa;
  for (const json::value& v : *names) {
    if (!v.is_string())
      return invalid_argument(format("{}: {} is not text", keys.at("isa"), json::dump(v)));
    const Result<platform::IsaSet> one = platform::parse_isa(json::view(v.get_string()));
    if (!one.ok()) return one.status().with(keys.at("isa"));
    isa = isa | *one;
  }
  return isa;
}

Result<Gpu> read_gpu(const json::value& value, const std::string& where) {
  if (!value.is_object())
    return invalid_argument(format("{}: {} is not an object", where, json::dump(value)));
  Keys keys(value.get_object(), where + ".");
  Gpu gpu;
  MOESTRO_ASSIGN(gpu.name, keys.text("name"));
  MOESTRO_ASSIGN(const std::string compute, keys.text("compute"));
  const std::vector<std::string_view> parts = split(compute, '.');
  const int64_t major = parse_int(parts.front()).value_or(0);
  const int64_t minor = parts.size() == 2 ? parse_int(parts.back()).value_or(-1) : -1;
  if (major < 1 || major > 99 || minor < 0 || minor > 9)
    return invalid_argument(format("{}: \"{}\" is not a compute capability such as \"9.0\"",
                                   keys.at("compute"), compute));
  gpu.compute_major = static_cast<int32_t>(major);
  gpu.compute_minor = static_cast<int32_t>(minor);
  MOESTRO_ASSIGN(const int64_t gib, keys.integer("memory_gib", 1, 4096));
  gpu.memory_bytes = gib << 30;
  MOESTRO_ASSIGN(const int64_t shared, keys.integer("shared_kib", 16, 4096));
  gpu.shared_bytes = static_cast<int32_t>(shared << 10);
  MOESTRO_ASSIGN(const int64_t multiprocessors, keys.integer("multiprocessors", 1, 4096));
  gpu.multiprocessors = static_cast<int32_t>(multiprocessors);
  MOESTRO_TRY(keys.nothing_else());
  return gpu;
}

}  // namespace

Machine this_machine() {
  const platform::CpuInfo cpu = platform::read_cpu_info();
  return {.name = "this machine",
          .cpu = cpu.model_name,
          .isa = platform::detect_isa(),
          .cores = cpu.num_cpus,
          .memory_bytes = static_cast<int64_t>(cpu.memory_bytes),
          .gpus = {},
          .ranks = 1,
          .described = false};
}

Result<Machine> parse_machine(const json::value& description) {
  if (!description.is_object()) return invalid_argument("not a JSON object");
  Keys keys(description.get_object(), "");
  Machine m;
  m.described = true;
  MOESTRO_ASSIGN(m.name, keys.text("name"));
  MOESTRO_ASSIGN(const json::object* cpu_object, keys.object("cpu"));
  Keys cpu(*cpu_object, "cpu.");
  MOESTRO_ASSIGN(m.cpu, cpu.text("name"));
  MOESTRO_ASSIGN(m.isa, read_isa(cpu));
  MOESTRO_ASSIGN(const int64_t cores, cpu.integer("cores", 1, 1024));
  m.cores = static_cast<int>(cores);
  MOESTRO_ASSIGN(const int64_t gib, cpu.integer("memory_gib", 1, 1 << 20));
  m.memory_bytes = gib << 30;
  MOESTRO_TRY(cpu.nothing_else());
  MOESTRO_ASSIGN(const json::array* gpus, keys.list("gpus"));
  for (size_t i = 0; gpus != nullptr && i < gpus->size(); ++i) {
    MOESTRO_ASSIGN(Gpu gpu, read_gpu((*gpus)[i], format("gpus[{}]", i)));
    m.gpus.push_back(std::move(gpu));
  }
  MOESTRO_ASSIGN(const int64_t ranks, keys.integer("ranks", 1, 1024, 1));
  m.ranks = static_cast<int>(ranks);
  MOESTRO_TRY(keys.nothing_else());
  return m;
}

Result<Machine> read_machine(const std::string& path) {
  Result<json::value> parsed = json::parse_file(path, {.max_bytes = size_t{1} << 20});
  if (!parsed.ok()) return parsed.status().with("--hardware");
  Result<Machine> machine = parse_machine(*parsed);
  if (!machine.ok()) return machine.status().with(format("--hardware {}", path));
  return machine;
}

}  // namespace moestro::plan

#include "text/jinja/value.h"

#include <cmath>
#include <functional>
#include <limits>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"

namespace moestro::text::jinja {
namespace {

constexpr size_t kLinearDict = 8;

[[noreturn]] void too_deep() {
  fail(format("a value is nested more than {} levels deep", kMaxValueDepth));
}

double as_double(const Value& v) {
  switch (v.type) {
    case Type::kFloat:
      return v.d;
    case Type::kBigInt:
      return static_cast<double>(v.u);
    default:
      return static_cast<double>(v.i);
  }
}

// Exact order of an integer and a double; both sides finite or not.
int compare_int_double(const Value& a, double b, bool* unordered) {
  if (std::isnan(b)) {
    *unordered = true;
    return 1;
  }
  // x87's and binary128's mantissas hold every 64-bit integer.
  static_assert(std::numeric_limits<long double>::digits >= 64);
  const long double x =
      a.is(Type::kBigInt) ? static_cast<long double>(a.u) : static_cast<long double>(a.i);
  const auto y = static_cast<long double>(b);
  return x < y ? -1 : x > y;
}

int compare_numbers(const Value& a, const Value& b, bool* unordered) {
  if (a.is(Type::kFloat) && b.is(Type::kFloat)) {
    *unordered = std::isnan(a.d) || std::isnan(b.d);
    return a.d < b.d ? -1 : a.d != b.d;
  }
  if (a.is(Type::kFloat)) return -compare_int_double(b, a.d, unordered);
  if (b.is(Type::kFloat)) return compare_int_double(a, b.d, unordered);
  if (a.is(Type::kBigInt) && b.is(Type::kBigInt)) return a.u < b.u ? -1 : a.u > b.u;
  if (a.is(Type::kBigInt)) return 1;
  if (b.is(Type::kBigInt)) return -1;
  return a.i < b.i ? -1 : a.i > b.i;
}

uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0xd6e8feb86659fd93ULL;
  x ^= x >> 29;
  x *= 0xd6e8feb86659fd93ULL;
  return x ^ (x >> 32);
}

uint64_t hash_number(const Value& v) {
  // Equal numbers of different types are one key, as in Python.
  if (v.is(Type::kFloat)) {
    if (std::abs(v.d) <= 0x1p62 && v.d == std::floor(v.d)) {
      return mix(static_cast<uint64_t>(static_cast<int64_t>(v.d)));
    }
    return mix(std::hash<double>()(v.d));
  }
  if (v.is(Type::kBigInt)) return mix(std::hash<double>()(as_double(v)));
  return mix(v.i > (int64_t{1} << 62) || v.i < -(int64_t{1} << 62)
                 ? std::hash<double>()(as_double(v))
                 : static_cast<uint64_t>(v.i));
}

bool equal_dicts(Heap& heap, const Dict& a, const Dict& b, int depth) {
  if (a.size != b.size) return false;
  for (const Dict::Entry& e : a.items()) {
    const Value* other = b.find(heap, e.key);
    if (!other || !equals(heap, e.value, *other, depth + 1)) return false;
  }
  return true;
}

}  // namespace

void List::reserve(Heap& heap, size_t n) {
  if (n <= capacity) return;
  Value* grown = heap.array<Value>(n);
  if (size) std::memcpy(static_cast<void*>(grown), data, size * sizeof(Value));
  data = grown;
  capacity = n;
}

size_t Dict::locate(Heap& heap, const Value& key) const {
  if (!index) {
    if (!key.is_string()) (void)hash(heap, key);  // an unhashable key fails, as in Python
    for (size_t i = 0; i < size; ++i) {
      if (key.is_string() && entries[i].key.is_string()) {
        if (key.text() == entries[i].key.text()) return i;
      } else if (equals(heap, entries[i].key, key)) {
        return i;
      }
    }
    return size;
  }
  const size_t mask = index_size - 1;
  for (size_t slot = hash(heap, key) & mask; index[slot]; slot = (slot + 1) & mask) {
    const size_t i = index[slot] - 1;
    heap.step();
    if (equals(heap, entries[i].key, key)) return i;
  }
  return size;
}

const Value* Dict::find(Heap& heap, const Value& key) const {
  const size_t i = locate(heap, key);
  return i < size ? &entries[i].value : nullptr;
}

void Dict::rebuild_index(Heap& heap) {
  if (size <= kLinearDict) {
    index = nullptr;
    return;
  }
  size_t wanted = 16;
  while (wanted < size * 2) wanted *= 2;
  if (!index || index_size < wanted) {
    index_size = wanted * 2;
    index = heap.array<uint32_t>(index_size);
  }
  std::memset(index, 0, index_size * sizeof(uint32_t));
  heap.step(1 + index_size / 64);
  for (size_t i = 0; i < size; ++i) {
    size_t slot = hash(heap, entries[i].key) & (index_size - 1);
    for (; index[slot]; slot = (slot + 1) & (index_size - 1)) heap.step();
    index[slot] = static_cast<uint32_t>(i + 1);
  }
}

void Dict::set(Heap& heap, const Value& key, const Value& value) {
  const size_t at = locate(heap, key);
  if (at < size) {
    entries[at].value = value;
    return;
  }
  if (size == capacity) {
    const size_t n = capacity ? capacity * 2 : 4;
    Entry* grown = heap.array<Entry>(n);
    if (size) std::memcpy(static_cast<void*>(grown), entries, size * sizeof(Entry));
    entries = grown;
    capacity = n;
  }
  entries[size++] = {key, value};
  if (size > kLinearDict && (!index || size * 2 > index_size)) {
    rebuild_index(heap);
  } else if (index) {
    size_t slot = hash(heap, key) & (index_size - 1);
    for (; index[slot]; slot = (slot + 1) & (index_size - 1)) heap.step();
    index[slot] = static_cast<uint32_t>(size);
  }
}

bool Dict::erase(Heap& heap, const Value& key) {
  const size_t at = locate(heap, key);
  if (at == size) return false;
  heap.step(1 + (size - at));
  for (size_t i = at + 1; i < size; ++i) entries[i - 1] = entries[i];
  --size;
  if (index) rebuild_index(heap);
  return true;
}

int64_t Range::count() const {
  // Differences in uint64: the ends may be the whole int64 range apart.
  if (step > 0) {
    if (start >= stop) return 0;
    const uint64_t n = (static_cast<uint64_t>(stop) - static_cast<uint64_t>(start) - 1) /
                           static_cast<uint64_t>(step) +
                       1;
    return n > INT64_MAX ? INT64_MAX : static_cast<int64_t>(n);
  }
  if (start <= stop) return 0;
  const uint64_t n = (static_cast<uint64_t>(start) - static_cast<uint64_t>(stop) - 1) /
                         (0 - static_cast<uint64_t>(step)) +
                     1;
  return n > INT64_MAX ? INT64_MAX : static_cast<int64_t>(n);
}

std::string_view type_name(const Value& v) {
  switch (v.type) {
    case Type::kMissing:
      return "missing";
    case Type::kUndefined:
      return "Undefined";
    case Type::kNone:
      return "NoneType";
    case Type::kBool:
      return "bool";
    case Type::kInt:
    case Type::kBigInt:
      return "int";
    case Type::kFloat:
      return "float";
    case Type::kString:
      return v.flag ? "Markup" : "str";
    case Type::kList:
      return "list";
    case Type::kTuple:
      return "tuple";
    case Type::kDict:
      return "dict";
    case Type::kDictView:
      switch (static_cast<DictView*>(v.object)->part) {
        case DictView::Part::kKeys:
          return "dict_keys";
        case DictView::Part::kValues:
          return "dict_values";
        case DictView::Part::kItems:
          return "dict_items";
      }
      return "dict_items";
    case Type::kRange:
      return "range";
    case Type::kIterator:
      return static_cast<Iterator*>(v.object)->name;
    case Type::kNamespace:
      return "Namespace";
    case Type::kCallable:
      switch (v.object->kind) {
        case ObjectKind::kMacro:
          return "Macro";
        case ObjectKind::kMethod:
          return "builtin_function_or_method";
        case ObjectKind::kJoiner:
          return "Joiner";
        default:
          return "function";
      }
    case Type::kLoop:
      return "LoopContext";
    case Type::kCycler:
      return "Cycler";
  }
  return "object";
}

bool truthy(const Value& v) {
  switch (v.type) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return false;
    case Type::kBool:
    case Type::kInt:
      return v.i != 0;
    case Type::kFloat:
      return v.d != 0;
    case Type::kString:
      return v.length != 0;
    case Type::kList:
    case Type::kTuple:
      return v.list->size != 0;
    case Type::kDict:
      return v.dict->size != 0;
    case Type::kDictView:
      return static_cast<DictView*>(v.object)->dict->size != 0;
    case Type::kRange:
      return static_cast<Range*>(v.object)->count() != 0;
    default:
      return true;
  }
}

bool equals(Heap& heap, const Value& a, const Value& b, int depth) {
  if (depth > kMaxValueDepth) too_deep();
  heap.step();
  if (a.is_number() && b.is_number()) {
    bool unordered = false;
    return compare_numbers(a, b, &unordered) == 0 && !unordered;
  }
  if (a.type != b.type) return false;
  switch (a.type) {
    case Type::kMissing:
    case Type::kUndefined:
    case Type::kNone:
      return true;
    case Type::kString:
      if (a.length != b.length) return false;
      heap.step_bytes(a.length);
      return a.text() == b.text();
    case Type::kList:
    case Type::kTuple:
      if (a.list == b.list) return true;
      if (a.list->size != b.list->size) return false;
      for (size_t i = 0; i < a.list->size; ++i) {
        if (!equals(heap, a.list->data[i], b.list->data[i], depth + 1)) return false;
      }
      return true;
    case Type::kDict:
      return a.dict == b.dict || equal_dicts(heap, *a.dict, *b.dict, depth);
    case Type::kRange: {
      const auto* x = static_cast<Range*>(a.object);
      const auto* y = static_cast<Range*>(b.object);
      const int64_t n = x->count();
      return n == y->count() &&
             (n == 0 || (x->start == y->start && (n == 1 || x->step == y->step)));
    }
    case Type::kNamespace:
      return a.dict == b.dict;
    default:
      return a.object == b.object;
  }
}

int compare(Heap& heap, const Value& a, const Value& b, std::string_view op, bool* unordered,
            int depth) {
  if (depth > kMaxValueDepth) too_deep();
  heap.step();
  *unordered = false;
  if (a.is_number() && b.is_number()) return compare_numbers(a, b, unordered);
  if (a.is_string() && b.is_string()) {
    heap.step_bytes(std::min(a.length, b.length));
    const int c = a.text().compare(b.text());  // UTF-8 keeps the order of code points
    return c < 0 ? -1 : c > 0;
  }
  if (a.type == b.type && a.is_sequence()) {
    const size_t n = std::min(a.list->size, b.list->size);
    for (size_t i = 0; i < n; ++i) {
      if (equals(heap, a.list->data[i], b.list->data[i], depth + 1)) continue;
      return compare(heap, a.list->data[i], b.list->data[i], op, unordered, depth + 1);
    }
    return a.list->size < b.list->size ? -1 : a.list->size > b.list->size;
  }
  if (a.is(Type::kUndefined)) fail_undefined(heap, a);
  if (b.is(Type::kUndefined)) fail_undefined(heap, b);
  fail(format("'{}' not supported between instances of '{}' and '{}'", op, type_name(a),
              type_name(b)));
}

bool less(Heap& heap, const Value& a, const Value& b) {
  bool unordered = false;
  return compare(heap, a, b, "<", &unordered) < 0 && !unordered;
}

uint64_t hash(Heap& heap, const Value& v, int depth) {
  if (depth > kMaxValueDepth) too_deep();
  switch (v.type) {
    case Type::kBool:
    case Type::kInt:
    case Type::kBigInt:
    case Type::kFloat:
      return hash_number(v);
    case Type::kString:
      heap.step_bytes(v.length);
      return std::hash<std::string_view>()(v.text());
    case Type::kNone:
      return 0x9e3779b97f4a7c15ULL;
    case Type::kUndefined:
      return 0x7f4a7c159e3779b9ULL;
    case Type::kTuple: {
      uint64_t h = 0x345678;
      for (const Value& item : v.list->items()) {
        heap.step();
        h = mix(h ^ hash(heap, item, depth + 1)) + 1;
      }
      return h;
    }
    case Type::kList:
    case Type::kDict:
      fail(format("unhashable type: '{}'", type_name(v)));
    case Type::kRange:
      fail("a range cannot be a key of a dict here");
    case Type::kNamespace:
      return mix(reinterpret_cast<uintptr_t>(v.dict));
    default:
      return mix(reinterpret_cast<uintptr_t>(v.object));
  }
}

bool is_iterable(const Value& v) {
  switch (v.type) {
    case Type::kUndefined:
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kDictView:
    case Type::kRange:
    case Type::kIterator:
    case Type::kLoop:
      return true;
    default:
      return false;
  }
}

bool has_length(const Value& v) {
  switch (v.type) {
    case Type::kUndefined:
    case Type::kString:
    case Type::kList:
    case Type::kTuple:
    case Type::kDict:
    case Type::kDictView:
    case Type::kRange:
      return true;
    default:
      return false;
  }
}

int64_t length(Heap& heap, const Value& v) {
  switch (v.type) {
    case Type::kUndefined:
      return 0;
    case Type::kString:
      heap.step_bytes(v.length);
      return static_cast<int64_t>(count_code_points(v.text()));
    case Type::kList:
    case Type::kTuple:
      return static_cast<int64_t>(v.list->size);
    case Type::kDict:
      return static_cast<int64_t>(v.dict->size);
    case Type::kDictView:
      return static_cast<int64_t>(static_cast<DictView*>(v.object)->dict->size);
    case Type::kRange:
      return static_cast<Range*>(v.object)->count();
    default:
      fail(format("object of type '{}' has no len()", type_name(v)));
  }
}

namespace {
bool range_contains(const Range& r, const Value& item) {
  if (!item.is_number() || item.is(Type::kBigInt)) return false;
  if (item.is(Type::kFloat) && (item.d != std::floor(item.d) || std::abs(item.d) > 9e18))
    return false;
  const int64_t x = item.is(Type::kFloat) ? static_cast<int64_t>(item.d) : item.i;
  if (r.step > 0 ? (x < r.start || x >= r.stop) : (x > r.start || x <= r.stop)) return false;
  const uint64_t distance = r.step > 0 ? static_cast<uint64_t>(x) - static_cast<uint64_t>(r.start)
                                       : static_cast<uint64_t>(r.start) - static_cast<uint64_t>(x);
  const uint64_t step =
      r.step > 0 ? static_cast<uint64_t>(r.step) : 0 - static_cast<uint64_t>(r.step);
  return distance % step == 0;
}
}  // namespace

bool contains(Heap& heap, const Value& container, const Value& item) {
  switch (container.type) {
    case Type::kString:
      if (!item.is_string()) {
        fail(format("'in <string>' requires string as left operand, not {}", type_name(item)));
      }
      heap.step_bytes(container.length);
      return item.length == 0 || (item.length <= container.length &&
                                  memmem(container.s, container.length, item.s, item.length) !=
                                      nullptr);  // linear, unlike string_view::find
    case Type::kDict:
      return container.dict->find(heap, item) != nullptr;
    case Type::kDictView: {
      const auto* view = static_cast<DictView*>(container.object);
      if (view->part == DictView::Part::kKeys) return view->dict->find(heap, item) != nullptr;
      break;
    }
    case Type::kRange:
      return range_contains(*static_cast<Range*>(container.object), item);
    default:
      if (!is_iterable(container) || container.is(Type::kLoop)) {
        fail(format("argument of type '{}' is not iterable", type_name(container)));
      }
  }
  for (const Value& v : elements(heap, container)) {
    if (equals(heap, v, item)) return true;
  }
  return false;
}

namespace {
List characters(Heap& heap, std::string_view text) {
  List list;
  list.reserve(heap, count_code_points(text));
  for (size_t i = 0; i < text.size();) {
    const CodePoint c = decode(text, i);
    list.push(heap, Value::string(text.substr(i, c.size)));
    i += c.size;
  }
  return list;
}
}  // namespace

std::span<const Value> elements(Heap& heap, const Value& v) {
  List list;
  switch (v.type) {
    case Type::kUndefined:
      break;
    case Type::kString:
      list = characters(heap, v.text());
      break;
    case Type::kList:
    case Type::kTuple:
      return v.list->items();
    case Type::kDict:
      list.reserve(heap, v.dict->size);
      for (const Dict::Entry& e : v.dict->items()) list.push(heap, e.key);
      break;
    case Type::kDictView: {
      const auto* view = static_cast<DictView*>(v.object);
      list.reserve(heap, view->dict->size);
      for (const Dict::Entry& e : view->dict->items()) {
        list.push(heap, view->part == DictView::Part::kKeys     ? e.key
                        : view->part == DictView::Part::kValues ? e.value
                                                                : make_pair(heap, e.key, e.value));
      }
      break;
    }
    case Type::kRange: {
      const auto* r = static_cast<Range*>(v.object);
      const int64_t n = r->count();
      list.reserve(heap, static_cast<size_t>(n));
      for (int64_t i = 0; i < n; ++i) list.push(heap, Value::integer(r->start + i * r->step));
      break;
    }
    case Type::kIterator: {
      auto* it = static_cast<Iterator*>(v.object);
      const std::span<const Value> rest = it->items.items().subspan(it->next);
      it->next = it->items.size;
      return rest;
    }
    default:
      fail(format("'{}' object is not iterable", type_name(v)));
  }
  heap.step(list.size);
  return {list.data, list.size};
}

Value make_list(Heap& heap, List list, Type type) {
  List* made = heap.make<List>();
  *made = list;
  return Value::of(type, made);
}
Value make_list(Heap& heap, std::span<const Value> items, Type type) {
  List list;
  list.reserve(heap, items.size());
  heap.step(items.size());
  for (const Value& v : items) list.push(heap, v);
  return make_list(heap, list, type);
}
Value make_pair(Heap& heap, const Value& a, const Value& b) {
  const Value items[] = {a, b};
  return make_list(heap, std::span<const Value>(items), Type::kTuple);
}
Value make_dict(Heap& heap) { return Value::of(Type::kDict, heap.make<Dict>()); }
Value make_iterator(Heap& heap, List items, const char* name) {
  return Value::of(Type::kIterator,
                   heap.make<Iterator>(Object{ObjectKind::kIterator}, items, size_t{0}, name));
}
Value make_string(Heap& heap, std::string_view text) { return Value::string(heap.copy(text)); }

namespace {
Value make_undefined(Heap& heap, Undefined u) {
  Value v = Value::of(Type::kUndefined);
  v.undefined = heap.make<Undefined>(u);
  return v;
}
}  // namespace

Value undefined_variable(Heap& heap, std::string_view name) {
  return make_undefined(heap, {{}, {}, Value::string(name)});
}
Value undefined_member(Heap& heap, const Value& owner, const Value& name) {
  return make_undefined(heap, {{}, type_name(owner), name});
}
Value undefined_hint(Heap& heap, std::string_view hint) {
  return make_undefined(heap, {hint, {}, {}});
}

std::string undefined_message(Heap& heap, const Value& v) {
  const Undefined& u = *v.undefined;
  if (!u.hint.empty()) return std::string(u.hint);
  if (u.owner.empty()) return format("'{}' is undefined", u.name.text());
  const std::string owner = u.owner == "NoneType" ? "None" : format("{} object", u.owner);
  if (!u.name.is_string()) return format("{} has no element {}", owner, repr(heap, u.name));
  return format("'{}' has no attribute {}", owner, repr(heap, u.name));
}

void fail_undefined(Heap& heap, const Value& v) { fail(undefined_message(heap, v)); }

Value from_json(Heap& heap, const json::value& v, int depth) {
  if (depth > kMaxValueDepth) too_deep();
  heap.step();
  switch (v.kind()) {
    case json::kind::null:
      return Value::none();
    case json::kind::bool_:
      return Value::boolean(v.get_bool());
    case json::kind::int64:
      return Value::integer(v.get_int64());
    case json::kind::uint64: {
      const uint64_t u = v.get_uint64();
      if (u <= INT64_MAX) return Value::integer(static_cast<int64_t>(u));
      Value big = Value::of(Type::kBigInt);
      big.u = u;
      return big;
    }
    case json::kind::double_:
      return Value::number(v.get_double());
    case json::kind::string: {
      const std::string_view text = json::view(v.get_string());
      if (text.size() > UINT32_MAX) fail("a string of the input is longer than 4 GiB");
      return Value::string(text);
    }
    case json::kind::array: {
      List list;
      list.reserve(heap, v.get_array().size());
      for (const json::value& item : v.get_array())
        list.push(heap, from_json(heap, item, depth + 1));
      return make_list(heap, list);
    }
    case json::kind::object: {
      const Value dict = make_dict(heap);
      for (const auto& member : v.get_object()) {
        dict.dict->set(heap, Value::string({member.key().data(), member.key().size()}),
                       from_json(heap, member.value(), depth + 1));
      }
      return dict;
    }
  }
  return Value::none();
}

}  // namespace moestro::text::jinja

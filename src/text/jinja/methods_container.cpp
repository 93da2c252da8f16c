// Methods of list, tuple, dict, float, and of Jinja2's loop and cycler. The lists and dicts of the
// input are copies of this render, so those that change them (which some published templates need,
// though transformers' sandbox refuses) are safe.
#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "base/format.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/methods.h"
#include "text/jinja/operators.h"

namespace moestro::text::jinja {
namespace {

using In = Interpreter&;
using Self = const Value&;
using Given = const Args&;

// ---- list, tuple ----

Value append(In in, Self self, Given args) {
  const auto [item] = bind<1>("append", args, {"object"}, 1);
  self.list->push(in.heap(), item);
  return Value::none();
}
Value extend(In in, Self self, Given args) {
  const auto [items] = bind<1>("extend", args, {"iterable"}, 1);
  for (const Value& v : elements(in.heap(), items)) {
    in.heap().step();
    self.list->push(in.heap(), v);
  }
  return Value::none();
}
Value insert(In in, Self self, Given args) {
  const auto [index, item] = bind<2>("insert", args, {"index", "object"}, 2);
  List& list = *self.list;
  const auto n = static_cast<int64_t>(list.size);
  int64_t at = int_argument(index, 0);
  at = std::clamp(at < 0 ? at + n : at, int64_t{0}, n);
  list.push(in.heap(), item);
  in.heap().step(1 + list.size / 16);
  std::rotate(list.data + at, list.data + n, list.data + n + 1);
  return Value::none();
}
Value pop(In in, Self self, Given args) {
  const auto [index] = bind<1>("pop", args, {"index"});
  List& list = *self.list;
  if (list.size == 0) fail("pop from empty list");
  const auto n = static_cast<int64_t>(list.size);
  const int64_t given = int_argument(index, -1);
  const int64_t at = given < 0 ? given + n : given;
  if (at < 0 || at >= n) fail("pop index out of range");
  const Value item = list.data[at];
  if (at == 0) {  // a queue's pop(0) moves nothing
    ++list.data;
    --list.capacity;
  } else {
    in.heap().step(1 + list.size / 16);
    std::copy(list.data + at + 1, list.data + n, list.data + at);
  }
  --list.size;
  return item;
}
Value remove(In in, Self self, Given args) {
  const auto [item] = bind<1>("remove", args, {"value"}, 1);
  List& list = *self.list;
  for (size_t i = 0; i < list.size; ++i) {
    if (!equals(in.heap(), list.data[i], item)) continue;
    std::copy(list.data + i + 1, list.data + list.size, list.data + i);
    --list.size;
    return Value::none();
  }
  fail("list.remove(x): x not in list");
}
Value clear_list(In, Self self, Given args) {
  (void)bind<0>("clear", args, {});
  *self.list = List();
  return Value::none();
}
Value copy_list(In in, Self self, Given args) {
  (void)bind<0>("copy", args, {});
  return make_list(in.heap(), self.list->items());
}
Value reverse_list(In in, Self self, Given args) {
  (void)bind<0>("reverse", args, {});
  in.heap().step(self.list->size);
  std::reverse(self.list->data, self.list->data + self.list->size);
  return Value::none();
}
Value sort_list(In in, Self self, Given args) {
  const auto [key, reverse] = bind<2>("sort", args, {"key", "reverse"});
  if (!key.missing() && !key.is(Type::kNone))
    fail("list.sort(key=…) is not supported: use the sort filter");
  const NamedValue named[] = {{"reverse", Value::boolean(bool_argument(reverse, false))},
                              {"case_sensitive", Value::boolean(true)}};
  const Value result = filters::sort(in, self, Args{{}, named});
  *self.list = *result.list;
  return Value::none();
}
Value count(In in, Self self, Given args) {
  const auto [item] = bind<1>("count", args, {"value"}, 1);
  int64_t n = 0;
  for (const Value& v : self.list->items()) n += equals(in.heap(), v, item);
  return Value::integer(n);
}
Value index(In in, Self self, Given args) {
  const auto [item, start, stop] = bind<3>("index", args, {"value", "start", "stop"}, 1);
  const SliceRange r = slice_indices(start, stop, Value(), static_cast<int64_t>(self.list->size));
  for (int64_t i = r.start; i < r.start + r.count; ++i) {
    if (equals(in.heap(), self.list->data[i], item)) return Value::integer(i);
  }
  fail("the value is not in the list");
}

// ---- dict ----

template <DictView::Part P>
Value view(In in, Self self, Given args) {
  (void)bind<0>("dict method", args, {});
  return Value::of(Type::kDictView,
                   in.heap().make<DictView>(Object{ObjectKind::kDictView}, self.dict, P));
}
Value get(In in, Self self, Given args) {
  const auto [key, fallback] = bind<2>("get", args, {"key", "default"}, 1);
  const Value* found = self.dict->find(in.heap(), key);
  return found ? *found : fallback.missing() ? Value::none() : fallback;
}
Value setdefault(In in, Self self, Given args) {
  const auto [key, fallback] = bind<2>("setdefault", args, {"key", "default"}, 1);
  if (const Value* found = self.dict->find(in.heap(), key)) return *found;
  const Value value = fallback.missing() ? Value::none() : fallback;
  self.dict->set(in.heap(), key, value);
  return value;
}
Value pop_key(In in, Self self, Given args) {
  const auto [key, fallback] = bind<2>("pop", args, {"key", "default"}, 1);
  const Value* found = self.dict->find(in.heap(), key);
  if (!found) {
    if (fallback.missing()) fail("KeyError: dict.pop of a key that is not there");
    return fallback;
  }
  const Value value = *found;
  self.dict->erase(in.heap(), key);
  return value;
}
Value popitem(In in, Self self, Given args) {
  (void)bind<0>("popitem", args, {});
  if (self.dict->size == 0) fail("popitem(): dictionary is empty");
  const Dict::Entry last = self.dict->entries[self.dict->size - 1];
  self.dict->erase(in.heap(), last.key);
  return make_pair(in.heap(), last.key, last.value);
}
Value update(In in, Self self, Given args) {
  if (args.positional.size() > 1) fail("update expected at most 1 argument");
  Heap& heap = in.heap();
  if (!args.positional.empty()) fill_dict(heap, *self.dict, args.positional[0]);
  for (const NamedValue& named : args.named)
    self.dict->set(heap, Value::string(named.name), named.value);
  return Value::none();
}
Value clear_dict(In, Self self, Given args) {
  (void)bind<0>("clear", args, {});
  self.dict->clear();
  return Value::none();
}
Value copy_dict(In in, Self self, Given args) {
  (void)bind<0>("copy", args, {});
  const Value copy = make_dict(in.heap());
  fill_dict(in.heap(), *copy.dict, self);
  return copy;
}

// ---- loop, cycler, float ----

Value cycle(In, Self self, Given args) {
  if (args.positional.empty()) fail("no items for cycling given");
  const auto& loop = *static_cast<Loop*>(self.object);
  return args.positional[static_cast<size_t>(loop.index0) % args.positional.size()];
}
Value changed(In in, Self self, Given args) {
  auto& loop = *static_cast<Loop*>(self.object);
  const Value now = make_list(in.heap(), args.positional, Type::kTuple);
  if (!loop.last_changed.missing() && equals(in.heap(), loop.last_changed, now))
    return Value::boolean(false);
  loop.last_changed = now;
  return Value::boolean(true);
}
Value cycler_next(In, Self self, Given args) {
  (void)bind<0>("next", args, {});
  auto& cycler = *static_cast<Cycler*>(self.object);
  const Value item = cycler.items.data[cycler.at];
  cycler.at = (cycler.at + 1) % cycler.items.size;
  return item;
}
Value cycler_reset(In, Self self, Given args) {
  (void)bind<0>("reset", args, {});
  static_cast<Cycler*>(self.object)->at = 0;
  return Value::none();
}
Value is_integer(In, Self self, Given args) {
  (void)bind<0>("is_integer", args, {});
  return Value::boolean(std::isfinite(self.d) && self.d == std::floor(self.d));
}

using Table = std::unordered_map<std::string_view, MethodFunction>;
MethodFunction look_up(const Table& table, std::string_view name) {
  const auto it = table.find(name);
  return it == table.end() ? nullptr : it->second;
}

}  // namespace

void fill_dict(Heap& heap, Dict& dict, const Value& source) {
  if (source.is(Type::kDict)) {
    for (const Dict::Entry& e : source.dict->items()) dict.set(heap, e.key, e.value);
    return;
  }
  for (const Value& pair : elements(heap, source)) {
    const std::span<const Value> two = elements(heap, pair);
    if (two.size() != 2)
      fail(format("dictionary update sequence element has length {}; 2 is required", two.size()));
    dict.set(heap, two[0], two[1]);
  }
}

MethodFunction find_list_method(std::string_view name) {
  static const Table kMethods = {
      {"append", append}, {"clear", clear_list},     {"copy", copy_list}, {"count", count},
      {"extend", extend}, {"index", index},          {"insert", insert},  {"pop", pop},
      {"remove", remove}, {"reverse", reverse_list}, {"sort", sort_list},
  };
  return look_up(kMethods, name);
}
MethodFunction find_tuple_method(std::string_view name) {
  return name == "count" ? count : name == "index" ? index : nullptr;
}
MethodFunction find_dict_method(std::string_view name) {
  static const Table kMethods = {
      {"clear", clear_dict},
      {"copy", copy_dict},
      {"get", get},
      {"items", view<DictView::Part::kItems>},
      {"keys", view<DictView::Part::kKeys>},
      {"pop", pop_key},
      {"popitem", popitem},
      {"setdefault", setdefault},
      {"update", update},
      {"values", view<DictView::Part::kValues>},
  };
  return look_up(kMethods, name);
}
MethodFunction find_loop_method(std::string_view name) {
  return name == "cycle" ? cycle : name == "changed" ? changed : nullptr;
}
MethodFunction find_cycler_method(std::string_view name) {
  return name == "next" ? cycler_next : name == "reset" ? cycler_reset : nullptr;
}
MethodFunction find_float_method(std::string_view name) {
  return name == "is_integer" ? is_integer : nullptr;
}

MethodFunction find_method(const Value& self, std::string_view name) {
  switch (self.type) {
    case Type::kString:
      return find_string_method(name);
    case Type::kList:
      return find_list_method(name);
    case Type::kTuple:
      return self.flag && name == "list" ? nullptr : find_tuple_method(name);
    case Type::kDict:
      return find_dict_method(name);
    case Type::kLoop:
      return find_loop_method(name);
    case Type::kCycler:
      return find_cycler_method(name);
    case Type::kFloat:
      return find_float_method(name);
    default:
      return nullptr;
  }
}

}  // namespace moestro::text::jinja

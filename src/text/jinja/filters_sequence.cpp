// Filters on sequences and mappings. Semantics: jinja2.filters. Where Jinja2 yields a generator, an
// Iterator comes back: computed at once, consumed once.
#include <algorithm>
#include <optional>
#include <vector>

#include "base/format.h"
#include "base/strings.h"
#include "text/jinja/failure.h"
#include "text/jinja/filters.h"
#include "text/jinja/interpreter.h"
#include "text/jinja/operators.h"
#include "text/jinja/python_text.h"
#include "text/jinja/repr.h"
#include "text/jinja/text_ops.h"

namespace moestro::text::jinja::filters {
namespace {

// "a.0.b": a path of names and numbers, as attribute= takes it.
class Getter {
 public:
  Getter(Interpreter& in, const Value& path, bool fold_case, const Value& fallback = Value())
      : in_(in), fold_case_(fold_case), fallback_(fallback.is(Type::kNone) ? Value() : fallback) {
    if (path.missing() || path.is(Type::kNone)) return;
    if (!path.is_string()) {
      parts_.push_back(path);
      return;
    }
    for (const std::string_view part : split(path.text(), '.')) {
      const bool digits =
          !part.empty() && part.find_first_not_of("0123456789") == std::string_view::npos;
      const std::optional<int64_t> index = digits ? parse_int(part) : std::nullopt;
      parts_.push_back(index ? Value::integer(*index) : Value::string(part));
    }
  }

  Value operator()(const Value& item) const {
    in_.heap().step();
    Value v = item;
    for (const Value& part : parts_) {
      v = in_.item(v, part);
      if (!fallback_.missing() && v.is(Type::kUndefined)) v = fallback_;
    }
    if (fold_case_ && v.is_string()) return make_string(in_.heap(), to_lower(v.text()));
    return v;
  }

 private:
  Interpreter& in_;
  std::vector<Value> parts_;
  bool fold_case_;
  Value fallback_;
};

struct Keyed {
  Value key;
  Value item;
};

std::vector<Keyed> sorted(Heap& heap, std::vector<Keyed> rows, bool reverse) {
  heap.require(rows.size() * sizeof(Keyed) * 2);
  // Python's reverse sort keeps the order of equal keys.
  std::stable_sort(rows.begin(), rows.end(), [&](const Keyed& a, const Keyed& b) {
    return reverse ? less(heap, b.key, a.key) : less(heap, a.key, b.key);
  });
  return rows;
}

template <class Key>
std::vector<Keyed> keyed(Heap& heap, std::span<const Value> items, const Key& key) {
  heap.require(items.size() * sizeof(Keyed) * 2);
  std::vector<Keyed> rows;
  rows.reserve(items.size());
  for (const Value& item : items) rows.push_back({key(item), item});
  return rows;
}

Value item_list(Heap& heap, const std::vector<Keyed>& rows) {
  List list;
  list.reserve(heap, rows.size());
  for (const Keyed& row : rows) list.push(heap, row.item);
  return make_list(heap, list);
}

// Arguments after the first n positional ones.
Args rest_of(const Args& args, size_t n) { return {args.positional.subspan(n), args.named}; }

Value choose(Interpreter& in, const Value& self, const Args& args, bool by_attribute, bool wanted) {
  List out;
  if (truthy(self) || self.is(Type::kIterator)) {
    const size_t offset = by_attribute ? 1 : 0;
    if (args.positional.size() < offset) fail("Missing parameter for attribute name");
    const Getter getter(in, by_attribute ? args.positional[0] : Value(), false);
    const bool tested = args.positional.size() > offset;
    for (const Value& item : elements(in.heap(), self)) {
      const Value v = getter(item);
      const bool holds = tested ? in.apply_test(str_argument(args.positional[offset], "test name"),
                                                v, rest_of(args, offset + 1))
                                : truthy(v);
      if (holds == wanted) out.push(in.heap(), item);
    }
  }
  return make_iterator(in.heap(), out);
}

Value extreme(Interpreter& in, const Value& self, const Args& args, std::string_view name,
              bool largest) {
  const auto [case_sensitive, path] = bind<2>(name, args, {"case_sensitive", "attribute"});
  const std::span<const Value> items = elements(in.heap(), self);
  if (items.empty()) return undefined_hint(in.heap(), "No aggregated item, sequence was empty.");
  const Getter getter(in, path, !bool_argument(case_sensitive, false));
  size_t best = 0;
  Value best_key = getter(items[0]);
  for (size_t i = 1; i < items.size(); ++i) {
    const Value key = getter(items[i]);
    if (largest ? less(in.heap(), best_key, key) : less(in.heap(), key, best_key)) {
      best = i;
      best_key = key;
    }
  }
  return items[best];
}

}  // namespace

Value length(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("length", args, {});
  return Value::integer(jinja::length(in.heap(), self));
}

Value list(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("list", args, {});
  return make_list(in.heap(), elements(in.heap(), self));
}

Value items(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("items", args, {});
  List out;
  if (!self.is(Type::kUndefined)) {
    if (!self.is(Type::kDict)) fail("Can only get item pairs from a mapping.");
    out.reserve(in.heap(), self.dict->size);
    for (const Dict::Entry& e : self.dict->items())
      out.push(in.heap(), make_pair(in.heap(), e.key, e.value));
  }
  return make_iterator(in.heap(), out);
}

Value first(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("first", args, {});
  if (self.is(Type::kIterator)) {
    auto& it = *static_cast<Iterator*>(self.object);
    if (it.next < it.items.size) return it.items.data[it.next++];
    return undefined_hint(in.heap(), "No first item, sequence was empty.");
  }
  if (self.is_string() && self.length)
    return item_at(in.heap(), Value::string(self.text().substr(0, 4)), 0);
  const std::span<const Value> items = elements(in.heap(), self);
  return items.empty() ? undefined_hint(in.heap(), "No first item, sequence was empty.") : items[0];
}

Value last(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("last", args, {});
  if (self.is(Type::kIterator)) fail(format("'{}' object is not reversible", type_name(self)));
  if (self.is_string() && self.length) {
    const uint32_t size = decode_before(self.text(), self.length).size;
    return Value::string(self.text().substr(self.length - size));
  }
  const std::span<const Value> items = elements(in.heap(), self);
  return items.empty() ? undefined_hint(in.heap(), "No last item, sequence was empty.")
                       : items.back();
}

Value reverse(Interpreter& in, const Value& self, const Args& args) {
  (void)bind<0>("reverse", args, {});
  if (self.is_string()) return Value::string(reversed(in.heap(), self.text()), self.flag);
  if (!is_iterable(self)) fail("argument must be iterable");
  const std::span<const Value> items = elements(in.heap(), self);
  List out;
  out.reserve(in.heap(), items.size());
  for (size_t i = items.size(); i > 0; --i) out.push(in.heap(), items[i - 1]);
  if (self.is(Type::kIterator)) return make_list(in.heap(), out);
  return make_iterator(in.heap(), out, self.is(Type::kList) ? "list_reverseiterator" : "reversed");
}

Value join(Interpreter& in, const Value& self, const Args& args) {
  const auto [separator, path] = bind<2>("join", args, {"d", "attribute"});
  Heap& heap = in.heap();
  const std::string_view between =
      separator.missing() ? std::string_view() : to_str(heap, separator);
  const std::span<const Value> items = elements(heap, self);
  if (path.missing() || path.is(Type::kNone))
    return Value::string(jinja::join(heap, between, items, false));
  const Getter getter(in, path, false);
  List values;
  for (const Value& item : items) values.push(heap, getter(item));
  return Value::string(jinja::join(heap, between, values.items(), false));
}

Value attr(Interpreter& in, const Value& self, const Args& args) {
  const auto [name_arg] = bind<1>("attr", args, {"name"}, 1);
  const std::string_view name = str_argument(name_arg, "attribute name");
  // Unlike the dot, it never looks at the keys of a dict.
  if (self.is(Type::kDict) && !find_method(self, name))
    return undefined_member(in.heap(), self, name_arg);
  return in.attribute(self, name);
}

Value batch(Interpreter& in, const Value& self, const Args& args) {
  const auto [count, fill] = bind<2>("batch", args, {"linecount", "fill_with"}, 1);
  Heap& heap = in.heap();
  const int64_t size = int_argument(count, 0);
  List out, row;
  const auto finish = [&] {
    out.push(heap, make_list(heap, row));
    row = List();
  };
  for (const Value& item : elements(heap, self)) {
    heap.step();
    if (static_cast<int64_t>(row.size) == size) finish();
    row.push(heap, item);
  }
  if (row.size) {
    if (!fill.missing() && !fill.is(Type::kNone)) {
      while (static_cast<int64_t>(row.size) < size) {
        heap.step();
        row.push(heap, fill);
      }
    }
    finish();
  }
  return make_iterator(heap, out);
}

Value slice(Interpreter& in, const Value& self, const Args& args) {
  const auto [count, fill] = bind<2>("slice", args, {"slices", "fill_with"}, 1);
  Heap& heap = in.heap();
  const std::span<const Value> items = elements(heap, self);
  const int64_t slices = int_argument(count, 0);
  if (slices == 0) fail("integer division or modulo by zero");
  const auto n = static_cast<int64_t>(items.size());
  const int64_t each = slices > 0 ? n / slices : 0;
  const int64_t longer = slices > 0 ? n % slices : 0;
  List out;
  for (int64_t i = 0, at = 0; i < slices; ++i) {
    heap.step();
    const int64_t size = each + (i < longer);
    List row;
    for (int64_t k = 0; k < size; ++k) row.push(heap, items[static_cast<size_t>(at + k)]);
    at += size;
    if (!fill.missing() && !fill.is(Type::kNone) && i >= longer) row.push(heap, fill);
    out.push(heap, make_list(heap, row));
  }
  return make_iterator(heap, out);
}

Value sort(Interpreter& in, const Value& self, const Args& args) {
  const auto [reverse, case_sensitive, path] =
      bind<3>("sort", args, {"reverse", "case_sensitive", "attribute"});
  Heap& heap = in.heap();
  const bool fold = !bool_argument(case_sensitive, false);
  const std::span<const Value> items = elements(heap, self);
  const bool descending = bool_argument(reverse, false);
  if (!path.is_string() || path.text().find(',') == std::string_view::npos) {
    return item_list(heap, sorted(heap, keyed(heap, items, Getter(in, path, fold)), descending));
  }
  std::vector<Getter> getters;  // "a,b": by several attributes
  for (const std::string_view part : split(path.text(), ','))
    getters.emplace_back(in, Value::string(part), fold);
  const auto key = [&](const Value& item) {
    List keys;
    for (const Getter& getter : getters) keys.push(heap, getter(item));
    return make_list(heap, keys);
  };
  return item_list(heap, sorted(heap, keyed(heap, items, key), descending));
}

Value dictsort(Interpreter& in, const Value& self, const Args& args) {
  const auto [case_sensitive, by_arg, reverse] =
      bind<3>("dictsort", args, {"case_sensitive", "by", "reverse"});
  Heap& heap = in.heap();
  if (self.is(Type::kUndefined)) fail_undefined(heap, self);
  if (!self.is(Type::kDict)) fail(format("'{}' object has no attribute 'items'", type_name(self)));
  const std::string_view by = by_arg.missing() ? "key" : str_argument(by_arg, "by");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  const Value pairs = items(in, self, {});
  const Getter getter(in, Value::integer(by == "value"), !bool_argument(case_sensitive, false));
  return item_list(heap, sorted(heap, keyed(heap, elements(heap, pairs), getter),
                                bool_argument(reverse, false)));
}

Value unique(Interpreter& in, const Value& self, const Args& args) {
  const auto [case_sensitive, path] = bind<2>("unique", args, {"case_sensitive", "attribute"});
  const Getter getter(in, path, !bool_argument(case_sensitive, false));
  Heap& heap = in.heap();
  Dict seen;
  List out;
  for (const Value& item : elements(heap, self)) {
    const Value key = getter(item);
    if (seen.find(heap, key)) continue;
    seen.set(heap, key, Value::none());
    out.push(heap, item);
  }
  return make_iterator(heap, out);
}

Value groupby(Interpreter& in, const Value& self, const Args& args) {
  const auto [path, fallback, case_sensitive] =
      bind<3>("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  Heap& heap = in.heap();
  const bool exact = bool_argument(case_sensitive, false);
  const Getter key(in, path, !exact, fallback);
  const Getter shown(in, path, false, fallback);
  const std::vector<Keyed> rows = sorted(heap, keyed(heap, elements(heap, self), key), false);
  List groups;
  for (size_t i = 0; i < rows.size();) {
    List members;
    size_t end = i;
    for (; end < rows.size() && equals(heap, rows[i].key, rows[end].key); ++end)
      members.push(heap, rows[end].item);
    if (end == i) members.push(heap, rows[end++].item);  // NaN is not even equal to itself
    Value group =
        make_pair(heap, exact ? rows[i].key : shown(rows[i].item), make_list(heap, members));
    group.flag = 1;
    groups.push(heap, group);
    i = end;
  }
  return make_list(heap, groups);
}

Value sum(Interpreter& in, const Value& self, const Args& args) {
  const auto [path, start] = bind<2>("sum", args, {"attribute", "start"});
  Heap& heap = in.heap();
  Value total = start.missing() ? Value::integer(0) : start;
  if (total.is_string()) fail("sum() can't sum strings [use ''.join(seq) instead]");
  const Getter getter(in, path, false);
  for (const Value& item : elements(heap, self))
    total = binary(heap, ExprKind::kAdd, total, getter(item));
  return total;
}

Value min(Interpreter& in, const Value& self, const Args& args) {
  return extreme(in, self, args, "min", false);
}
Value max(Interpreter& in, const Value& self, const Args& args) {
  return extreme(in, self, args, "max", true);
}

Value map(Interpreter& in, const Value& self, const Args& args) {
  List out;
  if (!truthy(self) && !self.is(Type::kIterator)) return make_iterator(in.heap(), out);
  const std::span<const Value> items = elements(in.heap(), self);
  if (args.positional.empty()) {
    const auto [path, fallback] = bind<2>("map", args, {"attribute", "default"});
    if (path.missing()) fail("map requires a filter argument");
    const Getter getter(in, path, false, fallback);
    for (const Value& item : items) out.push(in.heap(), getter(item));
  } else {
    const std::string_view name = str_argument(args.positional[0], "filter name");
    for (const Value& item : items)
      out.push(in.heap(), in.apply_filter(name, item, rest_of(args, 1)));
  }
  return make_iterator(in.heap(), out);
}

Value select(Interpreter& in, const Value& self, const Args& args) {
  return choose(in, self, args, false, true);
}
Value reject(Interpreter& in, const Value& self, const Args& args) {
  return choose(in, self, args, false, false);
}
Value selectattr(Interpreter& in, const Value& self, const Args& args) {
  return choose(in, self, args, true, true);
}
Value rejectattr(Interpreter& in, const Value& self, const Args& args) {
  return choose(in, self, args, true, false);
}

}  // namespace moestro::text::jinja::filters

// Value: a Python object as a template sees it, 16 bytes, copied by bits; what it points to lives
// in the render's Heap, in the JSON input or in the compiled program, all of which outlive it. The
// types and their names are Python's.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/json.h"
#include "text/jinja/heap.h"

namespace moestro::text::jinja {

struct Dict;
struct List;
struct Undefined;
struct Object;

enum class Type : uint8_t {
  kMissing,  // no value: an argument not given, a variable not set. Never visible to a template.
  kUndefined,
  kNone,
  kBool,
  kInt,     // int64
  kBigInt,  // uint64 above the int64 range, from JSON: shown and compared, not computed with
  kFloat,
  kString,  // UTF-8; flag: Markup
  kList,
  kTuple,  // flag: a groupby pair, with .grouper and .list
  kDict,
  kDictView,   // Object: keys(), values(), items()
  kRange,      // Object
  kIterator,   // Object: a generator, consumed by the first loop over it
  kNamespace,  // Dict
  kCallable,   // Object: macro, function, bound method, joiner
  kLoop,       // Object
  kCycler,     // Object
};

struct Value {
  Type type = Type::kMissing;
  uint8_t flag = 0;
  uint32_t length = 0;  // kString: bytes
  union {
    int64_t i = 0;
    uint64_t u;
    double d;
    const char* s;
    List* list;
    Dict* dict;
    Undefined* undefined;
    Object* object;
  };

  static Value none() { return of(Type::kNone); }
  static Value boolean(bool b) {
    Value v = of(Type::kBool);
    v.i = b;
    return v;
  }
  static Value integer(int64_t i) {
    Value v = of(Type::kInt);
    v.i = i;
    return v;
  }
  static Value number(double d) {
    Value v = of(Type::kFloat);
    v.d = d;
    return v;
  }
  // The bytes must outlive the render's values (Heap::copy).
  static Value string(std::string_view s, bool markup = false) {
    Value v = of(Type::kString);
    v.s = s.data();
    v.length = static_cast<uint32_t>(s.size());
    v.flag = markup;
    return v;
  }
  static Value of(Type type) {
    Value v;
    v.type = type;
    return v;
  }
  static Value of(Type type, List* list) {
    Value v = of(type);
    v.list = list;
    return v;
  }
  static Value of(Type type, Dict* dict) {
    Value v = of(type);
    v.dict = dict;
    return v;
  }
  static Value of(Type type, Object* object) {
    Value v = of(type);
    v.object = object;
    return v;
  }

  bool is(Type t) const { return type == t; }
  bool missing() const { return type == Type::kMissing; }
  bool is_string() const { return type == Type::kString; }
  bool is_sequence() const { return type == Type::kList || type == Type::kTuple; }
  bool is_int() const {
    return type == Type::kInt || type == Type::kBool;
  }  // as in Python, bool is an int
  bool is_number() const { return is_int() || type == Type::kFloat || type == Type::kBigInt; }
  bool is_markup() const { return type == Type::kString && flag; }
  std::string_view text() const { return {s, length}; }
};
static_assert(std::is_trivially_copyable_v<Value> && sizeof(Value) == 16);

struct List {
  Value* data = nullptr;
  size_t size = 0;
  size_t capacity = 0;

  std::span<const Value> items() const { return {data, size}; }
  void push(Heap& heap, Value v) {
    if (size == capacity) reserve(heap, capacity ? capacity * 2 : 4);
    data[size++] = v;
  }
  void reserve(Heap& heap, size_t n);
};

// Insertion-ordered, as Python's dict; an index is built above eight entries.
struct Dict {
  struct Entry {
    Value key;
    Value value;
  };
  Entry* entries = nullptr;
  size_t size = 0;
  size_t capacity = 0;
  uint32_t* index = nullptr;  // open addressing, entry + 1, 0: free; null: linear search
  size_t index_size = 0;      // power of two

  std::span<const Entry> items() const { return {entries, size}; }
  const Value* find(Heap& heap, const Value& key) const;
  const Value* find(Heap& heap, std::string_view key) const {
    return find(heap, Value::string(key));
  }
  void set(Heap& heap, const Value& key, const Value& value);  // fails on an unhashable key
  bool erase(Heap& heap, const Value& key);
  void clear() { *this = Dict(); }

 private:
  size_t locate(Heap& heap, const Value& key) const;  // entry number, size when absent
  void rebuild_index(Heap& heap);
};

// What an undefined value remembers, for the message when it is used.
struct Undefined {
  std::string_view hint;   // the whole message, or empty
  std::string_view owner;  // Python type of the object that lacks it; empty: a variable
  Value name;
};

enum class ObjectKind : uint8_t {
  kDictView,
  kRange,
  kIterator,
  kMacro,
  kFunction,
  kMethod,
  kJoiner,
  kLoop,
  kCycler
};
struct Object {
  ObjectKind kind;
};
struct DictView : Object {
  enum class Part : uint8_t { kKeys, kValues, kItems };
  Dict* dict;
  Part part;
};
struct Range : Object {
  int64_t start, stop, step;
  int64_t count() const;
};
struct Iterator : Object {
  List items;
  size_t next;
  const char* name;  // Python's type name
};
struct Joiner : Object {
  std::string_view separator;
  bool used;
};
struct Cycler : Object {
  List items;
  size_t at;
};

// Python's names and protocols. `heap` is charged for what they touch.
std::string_view type_name(const Value& v);  // "str", "list", "NoneType", …
bool truthy(const Value& v);
bool equals(Heap& heap, const Value& a, const Value& b, int depth = 0);
// -1, 0, 1; fails with Python's message naming `op` when the types have no order. NaN: `unordered`
// is set.
int compare(Heap& heap, const Value& a, const Value& b, std::string_view op, bool* unordered,
            int depth = 0);
bool less(Heap& heap, const Value& a, const Value& b);
uint64_t hash(Heap& heap, const Value& v, int depth = 0);  // fails on list, dict
bool is_iterable(const Value& v);
// len(); fails for objects that have none.
int64_t length(Heap& heap, const Value& v);
bool has_length(const Value& v);
bool contains(Heap& heap, const Value& container, const Value& item);
// The elements that a loop over v meets: a view of a list's own storage, or a fresh array. An
// Iterator is used up.
std::span<const Value> elements(Heap& heap, const Value& v);
Value make_list(Heap& heap, std::span<const Value> items, Type type = Type::kList);
Value make_list(Heap& heap, List list, Type type = Type::kList);
Value make_pair(Heap& heap, const Value& a, const Value& b);
Value make_dict(Heap& heap);
Value make_iterator(Heap& heap, List items, const char* name = "generator");
Value make_string(Heap& heap, std::string_view text);  // copies
Value undefined_variable(Heap& heap, std::string_view name);
Value undefined_member(Heap& heap, const Value& owner, const Value& name);
Value undefined_hint(Heap& heap, std::string_view hint);
std::string undefined_message(Heap& heap, const Value& v);
// Fails with the undefined value's own message; every use but printing, testing and looping ends
// here.
[[noreturn]] void fail_undefined(Heap& heap, const Value& v);
Value from_json(Heap& heap, const json::value& v, int depth = 0);
constexpr int kMaxValueDepth = 300;  // nesting of lists and dicts that any walk over values follows

}  // namespace moestro::text::jinja

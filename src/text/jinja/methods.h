// The methods of Python's types that a template may call, one table a type. Every function is a
// MethodFunction.
#pragma once
#include <string_view>

#include "text/jinja/callable.h"

namespace moestro::text::jinja {

MethodFunction find_string_method(std::string_view name);  // methods_string.cpp
MethodFunction find_list_method(std::string_view name);    // methods_container.cpp
MethodFunction find_tuple_method(std::string_view name);
MethodFunction find_dict_method(std::string_view name);
MethodFunction find_loop_method(std::string_view name);  // of {{ loop }}
MethodFunction find_cycler_method(std::string_view name);
MethodFunction find_float_method(std::string_view name);

// dict(source) and dict.update(source): a dict, or pairs.
void fill_dict(Heap& heap, Dict& dict, const Value& source);

}  // namespace moestro::text::jinja

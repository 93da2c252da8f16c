// The filters, by what they work on; the table that names them is in filters.cpp. Every function is
// a FilterFunction.
#pragma once
#include "text/jinja/callable.h"

namespace moestro::text::jinja::filters {

// filters_text.cpp
Value capitalize(Interpreter& in, const Value& self, const Args& args);
Value center(Interpreter& in, const Value& self, const Args& args);
Value escape(Interpreter& in, const Value& self, const Args& args);
Value force_escape(Interpreter& in, const Value& self, const Args& args);
Value format_text(Interpreter& in, const Value& self, const Args& args);
Value indent(Interpreter& in, const Value& self, const Args& args);
Value lower(Interpreter& in, const Value& self, const Args& args);
Value parse_json(Interpreter& in, const Value& self, const Args& args);
Value replace(Interpreter& in, const Value& self, const Args& args);
Value safe(Interpreter& in, const Value& self, const Args& args);
Value string(Interpreter& in, const Value& self, const Args& args);
Value title(Interpreter& in, const Value& self, const Args& args);
Value to_json(Interpreter& in, const Value& self, const Args& args);
Value trim(Interpreter& in, const Value& self, const Args& args);
Value truncate(Interpreter& in, const Value& self, const Args& args);
Value upper(Interpreter& in, const Value& self, const Args& args);
Value urlencode(Interpreter& in, const Value& self, const Args& args);
Value wordcount(Interpreter& in, const Value& self, const Args& args);
// filters_number.cpp
Value abs(Interpreter& in, const Value& self, const Args& args);
Value default_value(Interpreter& in, const Value& self, const Args& args);
Value filesizeformat(Interpreter& in, const Value& self, const Args& args);
Value to_float(Interpreter& in, const Value& self, const Args& args);
Value to_int(Interpreter& in, const Value& self, const Args& args);
Value round(Interpreter& in, const Value& self, const Args& args);
// filters_sequence.cpp
Value attr(Interpreter& in, const Value& self, const Args& args);
Value batch(Interpreter& in, const Value& self, const Args& args);
Value dictsort(Interpreter& in, const Value& self, const Args& args);
Value first(Interpreter& in, const Value& self, const Args& args);
Value groupby(Interpreter& in, const Value& self, const Args& args);
Value items(Interpreter& in, const Value& self, const Args& args);
Value join(Interpreter& in, const Value& self, const Args& args);
Value last(Interpreter& in, const Value& self, const Args& args);
Value length(Interpreter& in, const Value& self, const Args& args);
Value list(Interpreter& in, const Value& self, const Args& args);
Value map(Interpreter& in, const Value& self, const Args& args);
Value max(Interpreter& in, const Value& self, const Args& args);
Value min(Interpreter& in, const Value& self, const Args& args);
Value reject(Interpreter& in, const Value& self, const Args& args);
Value rejectattr(Interpreter& in, const Value& self, const Args& args);
Value reverse(Interpreter& in, const Value& self, const Args& args);
Value select(Interpreter& in, const Value& self, const Args& args);
Value selectattr(Interpreter& in, const Value& self, const Args& args);
Value slice(Interpreter& in, const Value& self, const Args& args);
Value sort(Interpreter& in, const Value& self, const Args& args);
Value sum(Interpreter& in, const Value& self, const Args& args);
Value unique(Interpreter& in, const Value& self, const Args& args);

}  // namespace moestro::text::jinja::filters

// Machine: what the output formats share. Input gathers in in_; step() looks at it and either
// decides something (true) or wants more input (false). A step decides only what no further input
// can change, which makes results independent of how the text was cut. Private to text/parsers.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/parsers/output_parser.h"

namespace moestro::text::parsers {

// Stands before a tag that came as one token. Not a byte of UTF-8.
inline constexpr char kTokenMark = '\xff';

// The tags of one parser; remembers which of them are single tokens.
class Tags {
 public:
  explicit Tags(std::function<bool(std::string_view)> is_token) : is_token_(std::move(is_token)) {}
  // The tag as it shows up in a machine's input.
  std::string add(std::string_view tag);
  bool is_tag_token(std::string_view content) const;
  bool is_part(std::string_view content) const;  // of a longer tag: "｜DSML｜"

 private:
  std::function<bool(std::string_view)> is_token_;
  std::vector<std::string> tokens_, texts_;
};

// Bytes not decided on yet. Dropping from the front is cheap.
class Input {
 public:
  void append(std::string_view text) {
    if (begin_ > data_.size() / 2) {
      data_.erase(0, begin_);
      begin_ = 0;
    }
    data_ += text;
  }
  std::string_view view() const { return std::string_view(data_).substr(begin_); }
  size_t size() const { return data_.size() - begin_; }
  bool empty() const { return size() == 0; }
  void drop(size_t n) { begin_ += n; }

 private:
  std::string data_;
  size_t begin_ = 0;
};

struct Found {
  size_t at, end;  // of the tag
  size_t tag;      // index
};
// The earliest. Tags must not begin with one another.
std::optional<Found> find_first(std::string_view text, std::span<const std::string> tags);
// How many bytes at the end of text may be the beginning of a tag.
size_t open_suffix(std::string_view text, std::span<const std::string> tags);
// text begins with the tag (kYes), could still (kMaybe), cannot.
enum class Starts : uint8_t { kNo, kMaybe, kYes };
Starts starts(std::string_view text, std::string_view tag);

bool is_space(char c);
size_t count_leading_space(std::string_view text);
size_t count_trailing_space(std::string_view text);
// What a function may be called: 1 to 256 bytes without white space, quotes, brackets and tags.
bool is_function_name(std::string_view name);
inline constexpr size_t kMaxNameBytes = 256;

class Machine {
 public:
  virtual ~Machine() = default;
  void push(std::string_view text, OutputEvents& out) {
    in_.append(text);
    while (step(out)) {
    }
  }
  void finish(bool cut, OutputEvents& out) {
    final_ = true;
    cut_ = cut;
    while (step(out)) {
    }
    on_finish(out);
  }

 protected:
  virtual bool step(OutputEvents& out) = 0;
  virtual void on_finish(OutputEvents&) {}

  Input in_;
  bool final_ = false, cut_ = false;
};

// A machine for tool calls: content with calls in it.
class ToolMachine : public Machine {
 public:
  explicit ToolMachine(const std::vector<ToolSpec>& tools) : tools_(tools) {}

 protected:
  // Content. White space at the beginning and after calls waits for what comes behind it.
  void content(std::string_view text, OutputEvents& out);
  // Emits content up to the first of the tags, which stays in in_ and is returned (end: its
  // length). Nothing: all that is certain was emitted.
  std::optional<Found> content_until(std::span<const std::string> tags, OutputEvents& out);
  // White space since the last content, call or this is no text of the answer.
  void forget_space() {
    held_space_.clear();
    text_begun_ = false;
  }
  bool accepts(std::string_view name) const;
  const json::value* schema_of(std::string_view name) const;
  void begin_call(std::string_view name, OutputEvents& out, std::string_view id = {});
  void arguments(std::string_view text, OutputEvents& out) {
    out.add(OutputEvent::Kind::kArguments, text, call_);
  }
  int32_t num_calls() const { return call_ + 1; }
  void on_finish(OutputEvents& out) override;

 private:
  const std::vector<ToolSpec> tools_;
  std::string held_space_;
  bool text_begun_ = false;  // since the last call
  int32_t call_ = -1;
};

}  // namespace moestro::text::parsers

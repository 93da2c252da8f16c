// Builds small tokenizer.json texts for the tests of this folder. Test code only.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/format.h"
#include "base/json.h"
#include "base/strings.h"
#include "text/byte_map.h"
#include "text/tokenizer.h"

namespace moestro::text {

struct Fixture {
  // Sections as JSON text.
  std::string normalizer = "null", pre_tokenizer = "null", post_processor = "null",
              decoder = "null";
  std::string added_tokens = "[]";
  std::string model_options;             // e.g. R"("byte_fallback": true, )"
  bool byte_alphabet = false;            // the 256 ByteLevel characters come first
  bool byte_tokens = false;              // then <0x00> to <0xFF>
  std::vector<std::string> characters;   // then these
  std::vector<std::string> merges;       // "A B"; each result becomes a token
  std::vector<std::string> more_tokens;  // at the end
  bool merges_as_pairs = false;

  std::string json() const {
    std::vector<std::string> tokens;
    if (byte_alphabet)
      for (int b = 0; b < 256; ++b) tokens.emplace_back(byte_to_mapped(static_cast<uint8_t>(b)));
    if (byte_tokens)
      for (int b = 0; b < 256; ++b) tokens.push_back(format("<0x{:02X}>", b));
    tokens.insert(tokens.end(), characters.begin(), characters.end());
    std::string merge_list;
    for (const std::string& merge : merges) {
      const std::vector<std::string_view> parts = split(merge, ' ');
      const std::string result = std::string(parts[0]) + std::string(parts[1]);
      bool seen = false;
      for (const std::string& token : tokens) seen |= token == result;
      if (!seen) tokens.push_back(result);
      merge_list += merge_list.empty() ? "" : ", ";
      merge_list += merges_as_pairs
                        ? "[" + json::quote(parts[0]) + ", " + json::quote(parts[1]) + "]"
                        : json::quote(merge);
    }
    tokens.insert(tokens.end(), more_tokens.begin(), more_tokens.end());
    std::string vocab;
    for (size_t i = 0; i < tokens.size(); ++i)
      vocab += (i ? ", " : "") + json::quote(tokens[i]) + ": " + std::to_string(i);
    return R"({"version": "1.0", "truncation": null, "padding": null, "added_tokens": )" +
           added_tokens + R"(, "normalizer": )" + normalizer + R"(, "pre_tokenizer": )" +
           pre_tokenizer + R"(, "post_processor": )" + post_processor + R"(, "decoder": )" +
           decoder + R"(, "model": {"type": "BPE", )" + model_options + R"("vocab": {)" + vocab +
           R"(}, "merges": [)" + merge_list + "]}}";
  }
};

// The contents of the encoded tokens, joined by "|".
inline std::string token_texts(const Tokenizer& tokenizer, std::string_view text,
                               bool add_special_tokens = false) {
  std::string out;
  for (const int32_t id : tokenizer.encode(text, add_special_tokens))
    out += (out.empty() ? "" : "|") + std::string(tokenizer.token_content(id));
  return out;
}

// SentencePiece style, variant A of reference/models.md 6.4 (Mixtral).
inline Fixture mixtral_fixture() {
  Fixture f;
  f.normalizer = R"({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
      {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]})";
  f.decoder =
      R"({"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]})";
  f.post_processor = R"({"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
      "pair": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
               {"Sequence": {"id": "B", "type_id": 0}}],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [257], "tokens": ["<s>"]}}})";
  f.added_tokens = R"([
      {"id": 256, "content": "<unk>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 257, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 258, "content": "</s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}])";
  f.model_options = R"("unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true, )";
  f.byte_tokens = true;
  f.characters = {"<unk>", "<s>", "</s>", "\u2581", "a", "b", "c", "d",
                  "e",     "h",   "l",    "o",      "r", "w", "."};
  f.merges = {"\u2581 \u2581", "h e",        "l l",
              "\u2581 w",      "o r",        "\u2581\u2581 \u2581\u2581",
              "he ll",         "l d",        "\u2581 hell",
              "\u2581hell o",  "\u2581w or", "\u2581wor ld",
              "\u2581 a"};
  return f;
}

// Variant B: no normalizer, Metaspace.
inline Fixture metaspace_fixture() {
  Fixture f = mixtral_fixture();
  f.normalizer = "null";
  f.pre_tokenizer =
      R"({"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "first", "split": false})";
  return f;
}

inline Fixture byte_level_fixture() {
  Fixture f;
  f.pre_tokenizer =
      R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";
  f.decoder =
      R"({"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true})";
  f.byte_alphabet = true;
  f.merges = {"h e", "l l",        "he ll", "hell o",       "\u0120 w",
              "o r", "\u0120w or", "l d",   "\u0120wor ld", "\u00c3 \u00a9"};
  return f;
}

}  // namespace moestro::text

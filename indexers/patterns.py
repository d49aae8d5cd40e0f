"""What a definition looks like, language by language: data only.

`TREE` holds tree-sitter queries. In each pattern the capture named after a kind (`@function`, `@method`,
`@class`, `@module`, `@constant`, `@type`) is the whole definition and `@name` its name. `@receiver` is the
type a method says it belongs to (Go, Lua); `@scope` marks a node that encloses but defines nothing itself
(an `impl`). A `function` directly inside a class or scope is reported as a method. A constant in a function
and a type in a scope are dropped. Earlier patterns win over later ones for the same name.

`LINES` holds regular expressions for languages without a usable grammar: group 1 is the name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

PYTHON = """
(class_definition name: (_) @name) @class
(function_definition name: (_) @name) @function
(module (assignment left: (identifier) @name) @constant)
(module (expression_statement (assignment left: (identifier) @name)) @constant)
(type_alias_statement left: (type . (identifier) @name)) @type
"""

JAVASCRIPT = """
(class_declaration name: (_) @name) @class
(function_declaration name: (_) @name) @function
(generator_function_declaration name: (_) @name) @function
(method_definition name: (_) @name) @method
(variable_declarator name: (identifier) @name
  value: [(arrow_function) (function_expression) (generator_function)]) @function
(variable_declarator name: (identifier) @name value: (class)) @class
(assignment_expression left: (member_expression property: (_) @name)
  right: [(arrow_function) (function_expression) (generator_function)]) @function
(assignment_expression left: (member_expression property: (_) @name) right: (class)) @class
(pair key: (property_identifier) @name value: [(arrow_function) (function_expression)]) @function
(program (lexical_declaration (variable_declarator name: (identifier) @name)) @constant)
(program (variable_declaration (variable_declarator name: (identifier) @name)) @constant)
(program (export_statement
  declaration: (_ (variable_declarator name: (identifier) @name))) @constant)
"""

JAVASCRIPT_FIELDS = """
(field_definition property: (_) @name value: [(arrow_function) (function_expression)]) @method
"""

TYPESCRIPT = """
(abstract_class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(type_alias_declaration name: (_) @name) @type
(internal_module name: (_) @name) @module
(module name: (_) @name) @module
(function_signature name: (_) @name) @function
(method_signature name: (_) @name) @method
(abstract_method_signature name: (_) @name) @method
(public_field_definition name: (_) @name value: [(arrow_function) (function_expression)]) @method
"""

GO = """
(function_declaration name: (_) @name) @function
(method_declaration
  receiver: (parameter_list (parameter_declaration type: (_) @receiver)) name: (_) @name) @method
(type_spec name: (_) @name type: [(struct_type) (interface_type)]) @class
(type_spec name: (_) @name) @type
(type_alias name: (_) @name) @type
(const_spec name: (_) @name) @constant
(var_spec name: (_) @name) @constant
"""

RUST = """
(function_item name: (_) @name) @function
(function_signature_item name: (_) @name) @function
(struct_item name: (_) @name) @class
(enum_item name: (_) @name) @class
(union_item name: (_) @name) @class
(trait_item name: (_) @name) @class
(impl_item type: (_) @name) @scope
(mod_item name: (_) @name body: (_)) @module
(type_item name: (_) @name) @type
(const_item name: (_) @name) @constant
(static_item name: (_) @name) @constant
(macro_definition name: (_) @name) @function
"""

JAVA = """
(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(annotation_type_declaration name: (_) @name) @class
(method_declaration name: (_) @name) @method
(constructor_declaration name: (_) @name) @method
(compact_constructor_declaration name: (_) @name) @method
(field_declaration (modifiers "static" "final") declarator: (variable_declarator name: (_) @name)) @constant
(interface_body (constant_declaration declarator: (variable_declarator name: (_) @name)) @constant)
"""

KOTLIN = """
(class_declaration (type_identifier) @name) @class
(object_declaration (type_identifier) @name) @class
(companion_object (type_identifier) @name) @class
(function_declaration (simple_identifier) @name) @function
(type_alias (type_identifier) @name) @type
(property_declaration
  (modifiers (property_modifier) @word) (variable_declaration (simple_identifier) @name)) @constant
(source_file (property_declaration (variable_declaration (simple_identifier) @name)) @constant)
"""

# The name of a C function sits under any number of pointer and function declarators: symbols.py digs it out.
C = """
(function_definition declarator: (_) @name) @function
(declaration declarator: (function_declarator) @name) @function
(declaration declarator: (pointer_declarator (function_declarator)) @name) @function
(struct_specifier name: (_) @name body: (_)) @class
(union_specifier name: (_) @name body: (_)) @class
(enum_specifier name: (_) @name body: (_)) @class
(type_definition declarator: (_) @name) @type
(preproc_def name: (_) @name value: (_)) @constant
(preproc_function_def name: (_) @name) @function
(declaration (type_qualifier "const") declarator: (init_declarator declarator: (_) @name)) @constant
"""

CPP = """
(namespace_definition name: (_) @name) @module
(class_specifier name: (_) @name body: (_)) @class
(concept_definition name: (_) @name) @type
(alias_declaration name: (_) @name) @type
(field_declaration declarator: (function_declarator) @name) @function
(field_declaration declarator: (pointer_declarator (function_declarator)) @name) @function
(field_declaration declarator: (reference_declarator (function_declarator)) @name) @function
(declaration declarator: (reference_declarator (function_declarator)) @name) @function
(declaration (type_qualifier "constexpr") declarator: (init_declarator declarator: (_) @name)) @constant
"""

CSHARP = """
(namespace_declaration name: (_) @name) @module
(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(struct_declaration name: (_) @name) @class
(record_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(delegate_declaration name: (_) @name) @type
(method_declaration name: (_) @name) @method
(constructor_declaration name: (_) @name) @method
(destructor_declaration name: (_) @name) @method
(property_declaration name: (_) @name) @method
(local_function_statement name: (_) @name) @function
(field_declaration (modifier "const") (variable_declaration (variable_declarator name: (_) @name))) @constant
(field_declaration (modifier "static") (modifier "readonly")
  (variable_declaration (variable_declarator name: (_) @name))) @constant
"""

PHP = """
(namespace_definition name: (_) @name body: (_)) @module
(class_declaration name: (_) @name) @class
(interface_declaration name: (_) @name) @class
(trait_declaration name: (_) @name) @class
(enum_declaration name: (_) @name) @class
(function_definition name: (_) @name) @function
(method_declaration name: (_) @name) @method
(const_element . (name) @name) @constant
"""

RUBY = """
(module name: (_) @name) @module
(class name: (_) @name) @class
(method name: (_) @name) @function
(singleton_method name: (_) @name) @method
(assignment left: (constant) @name) @constant
"""

SCALA = """
(object_definition name: (_) @name) @class
(class_definition name: (_) @name) @class
(trait_definition name: (_) @name) @class
(enum_definition name: (_) @name) @class
(package_object name: (_) @name) @module
(function_definition name: (_) @name) @function
(function_declaration name: (_) @name) @function
(given_definition name: (_) @name) @constant
(type_definition name: (_) @name) @type
(template_body (val_definition pattern: (identifier) @name) @constant)
(compilation_unit (val_definition pattern: (identifier) @name) @constant)
"""

SWIFT = """
(class_declaration "extension" name: (_) @name) @scope
(class_declaration name: (_) @name) @class
(protocol_declaration name: (_) @name) @class
(function_declaration name: (simple_identifier) @name) @function
(protocol_function_declaration name: (simple_identifier) @name) @method
(init_declaration "init" @name) @method
(deinit_declaration "deinit" @name) @method
(typealias_declaration name: (type_identifier) @name) @type
(source_file (property_declaration name: (pattern (simple_identifier) @name)) @constant)
"""

ELIXIR = """
(call target: (identifier) @word (arguments . (alias) @name)) @module
(call target: (identifier) @word (arguments . [
    (identifier) @name
    (call target: (identifier) @name)
    (binary_operator left: (call target: (identifier) @name))
    (binary_operator left: (identifier) @name)
  ])) @function
"""

# Where the shape is not enough (in Elixir a definition is a call of a macro), `@word` must be one of these.
WORDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "constant": frozenset({"const"}),
        "module": frozenset({"defmodule", "defprotocol", "defimpl"}),
        "function": frozenset(
            {"def", "defp", "defmacro", "defmacrop", "defguard", "defguardp", "defdelegate"}
        ),
    }
)

LUA = """
(function_declaration name: (identifier) @name) @function
(function_declaration name: (dot_index_expression table: (_) @receiver field: (_) @name)) @function
(function_declaration name: (method_index_expression table: (_) @receiver method: (_) @name)) @method
(assignment_statement (variable_list . name: (identifier) @name)
  (expression_list . value: (function_definition))) @function
(assignment_statement (variable_list . name: (dot_index_expression table: (_) @receiver field: (_) @name))
  (expression_list . value: (function_definition))) @function
(field name: (identifier) @name value: (function_definition)) @function
(chunk (variable_declaration (assignment_statement (variable_list name: (identifier) @name))) @constant)
"""

BASH = """
(function_definition name: (_) @name) @function
(program (variable_assignment name: (variable_name) @name) @constant)
(program (declaration_command (variable_assignment name: (variable_name) @name)) @constant)
"""

HASKELL = """
(class name: (_) @name) @class
(instance name: (_) @name) @scope
(data_type name: (_) @name) @type
(newtype name: (_) @name) @type
(type_synomym name: (_) @name) @type
(data_family name: (_) @name) @type
(type_family name: (_) @name) @type
(declarations (signature name: (_) @name) @function)
(class_declarations (signature name: (_) @name) @function)
(declarations (function name: (_) @name) @function)
(declarations (bind name: (variable) @name) @function)
"""

ZIG = """
(Decl (FnProto function: (IDENTIFIER) @name)) @function
(Decl (VarDecl variable_type_function: (IDENTIFIER) @name
  (ErrorUnionExpr (SuffixExpr (ContainerDecl))))) @class
(Decl (VarDecl variable_type_function: (IDENTIFIER) @name)) @constant
(TestDecl (STRINGLITERALSINGLE) @name) @function
"""

TREE: Mapping[str, str] = MappingProxyType(
    {
        "python": PYTHON,
        "javascript": JAVASCRIPT + JAVASCRIPT_FIELDS,
        "typescript": JAVASCRIPT + TYPESCRIPT,
        "tsx": JAVASCRIPT + TYPESCRIPT,
        "go": GO,
        "rust": RUST,
        "java": JAVA,
        "kotlin": KOTLIN,
        "c": C,
        "cpp": C + CPP,
        "csharp": CSHARP,
        "php": PHP,
        "ruby": RUBY,
        "scala": SCALA,
        "swift": SWIFT,
        "elixir": ELIXIR,
        "lua": LUA,
        "bash": BASH,
        "haskell": HASKELL,
        "zig": ZIG,
    }
)

_WORD = r"([A-Za-z_][\w.$'!?*-]*)"
# Statements like these are written on one line in every dialect, and no grammar reads every dialect.
_SQL_CREATE = r"(?i)\s*create\s+(?:or\s+(?:replace|alter)\s+)?(?:(?:temp|temporary|unlogged|materialized|unique|global|local|external|recursive|foreign|definer\S*)\s+)*"  # noqa: E501
_SQL_NAME = r"\s+(?:if\s+not\s+exists\s+)?([\w.\"`\[\]$]+)"

LINES: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "sql": (
            ("type", _SQL_CREATE + "(?:table|view|type|domain|sequence)" + _SQL_NAME),
            ("function", _SQL_CREATE + "(?:function|procedure|proc|trigger|aggregate)" + _SQL_NAME),
            ("module", _SQL_CREATE + r"(?:schema|database|package(?:\s+body)?)" + _SQL_NAME),
        ),
        "dart": (
            (
                "class",
                rf"(?:(?:abstract|sealed|final|base|interface)\s+)*(?:class|mixin|enum|extension)\s+{_WORD}",
            ),
            ("function", rf"\s*(?:[\w<>?,\[\]]+\s+)+{_WORD}\s*\([^;]*\)\s*(?:async\*?\s*)?(?:\{{|=>)"),
        ),
        "r": (("function", r"\s*([\w.]+)\s*(?:<-|=)\s*function\b"),),
        "julia": (
            ("module", rf"(?:bare)?module\s+{_WORD}"),
            ("class", rf"\s*(?:mutable\s+)?struct\s+{_WORD}"),
            ("type", rf"\s*abstract\s+type\s+{_WORD}"),
            ("function", rf"\s*(?:function|macro)\s+{_WORD}"),
            ("function", r"([A-Za-z_]\w*!?)\([^=]*\)\s*=[^=]"),
        ),
        "ocaml": (
            ("module", r"\s*module\s+(?:type\s+|rec\s+)?([A-Z]\w*)"),
            ("type", r"\s*type\s+(?:nonrec\s+)?(?:'\w+\s+|\([^)]*\)\s*)?([a-z_]\w*)"),
            ("function", r"(?:let(?:\s+rec)?|and|val|external)\s+([a-z_][\w']*)"),
        ),
        "erlang": (
            ("module", r"-module\(([\w@]+)\)"),
            ("type", r"-(?:record|type|opaque)\(?\s*([\w@]+)"),
            ("constant", r"-define\(\s*(\w+)"),
            ("function", r"([a-z][\w@]*)\(.*(?:->|when\b|,\s*$)"),
        ),
        "clojure": (
            ("module", r"\(ns\s+(?:\^\S+\s+)*([\w.-]+)"),
            ("class", r"\((?:defrecord|deftype|defprotocol|definterface)\s+([\w.*+!?<>=-]+)"),
            ("function", r"\((?:defn-?|defmacro|defmulti|defmethod)\s+(?:\^\S+\s+)*([\w.*+!?<>=/-]+)"),
            ("constant", r"\(def(?:once)?\s+(?:\^\S+\s+)*([\w.*+!?<>=/-]+)"),
        ),
        "elisp": (
            ("function", r"\((?:cl-)?def(?:un|macro|subst)\s+([^\s()]+)"),
            ("constant", r"\(def(?:var|const|custom)\s+([^\s()]+)"),
        ),
        "objc": (
            ("class", r"@(?:interface|implementation|protocol)\s+(\w+)"),
            ("method", r"[-+]\s*\([^)]*\)\s*(\w+)"),
            ("function", r"(?:static\s+|inline\s+)*[A-Za-z_]\w*[\s*]+(\w+)\([^;]*\)\s*\{"),
            ("constant", r"#define\s+(\w+)"),
        ),
        "perl": (("module", r"\s*package\s+([\w:]+)"), ("function", r"\s*sub\s+(\w+)")),
        "nix": (("function", r"\s{0,4}([A-Za-z_][\w'-]*)\s*=\s*(?:\w+|\{[^}]*\})\s*:"),),
        "hcl": (
            ("class", r'(?:resource|data)\s+"[^"]*"\s+"([^"]+)"'),
            ("class", r'(?:module|variable|output|provider|job|source|build)\s+"([^"]+)"'),
        ),
        "make": (
            ("function", r"([A-Za-z0-9_./%$(){}-]+)\s*:(?![=:])"),
            ("constant", r"(?:export\s+)?([A-Za-z_]\w*)\s*[:?+]?="),
        ),
        "cmake": (("function", r"(?i)\s*(?:function|macro|add_executable|add_library)\s*\(\s*([\w.:-]+)"),),
        "dockerfile": (("class", r"(?i)FROM\s+.*\sAS\s+(\S+)"),),
        "proto": (
            ("class", r"\s*(?:message|service|enum)\s+(\w+)"),
            ("method", r"\s*rpc\s+(\w+)"),
        ),
        "thrift": (("class", r"\s*(?:struct|service|enum|exception|union)\s+(\w+)"),),
        "graphql": (
            ("class", r"(?:extend\s+)?(?:type|interface|input|enum|union|scalar)\s+(\w+)"),
            ("function", r"(?:query|mutation|subscription|fragment|directive)\s+@?(\w+)"),
        ),
        "groovy": (
            ("class", r"\s*(?:\w+\s+)*(?:class|interface|trait|enum)\s+(\w+)"),
            ("function", r"\s*(?:\w+\s+)*(?:def|void)\s+(\w+)\s*\("),
        ),
        "powershell": (
            ("function", r"(?i)\s*(?:function|filter)\s+([\w:-]+)"),
            ("class", r"(?i)\s*(?:class|enum)\s+(\w+)"),
        ),
        "solidity": (
            ("class", r"\s*(?:abstract\s+)?(?:contract|interface|library|struct|enum)\s+(\w+)"),
            ("function", r"\s*(?:function|modifier|event|error)\s+(\w+)"),
        ),
        "fsharp": (
            ("module", r"\s*(?:module|namespace)\s+(?:rec\s+)?([\w.]+)"),
            ("type", r"\s*(?:type|and)\s+(\w+)"),
            ("function", r"\s{0,4}let\s+(?:rec\s+|inline\s+)*(\w+)"),
            ("method", r"\s*(?:static\s+)?(?:member|override)\s+(?:\w+\.)?(\w+)"),
        ),
        "elm": (("type", r"type\s+(?:alias\s+)?(\w+)"), ("function", r"([a-z]\w*)\s*:(?!:)")),
        "purescript": (
            ("type", r"(?:data|newtype|type|class)\s+(\w+)"),
            ("function", r"([a-z]\w*)\s*::"),
        ),
        "nim": (("function", r"\s*(?:proc|func|method|template|macro|iterator)\s+`?(\w+)"),),
        "vim": (("function", r"\s*fu(?:n|nction)?!?\s+([\w:#.]+)"),),
        "fish": (("function", r"\s*function\s+([\w:-]+)"),),
        "tcl": (("function", r"\s*proc\s+(\S+)"),),
        "gdscript": (
            ("class", r"\s*(?:class_name|class)\s+(\w+)"),
            ("function", r"\s*(?:static\s+)?func\s+(\w+)"),
        ),
        "starlark": (("function", r"def\s+(\w+)"), ("constant", r"([A-Za-z_]\w*)\s*=[^=]")),
        "verilog": (("module", r"\s*(?:module|interface|package)\s+(\w+)"),),
        "prisma": (("class", r"(?:model|enum|type|datasource|generator)\s+(\w+)"),),
        "fortran": (
            ("module", r"(?i)\s*(?:module|program)\s+(?!procedure)(\w+)"),
            ("function", r"(?i)\s*(?!end)(?:\w+\s+)*(?:subroutine|function)\s+(\w+)"),
        ),
    }
)

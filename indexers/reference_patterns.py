"""Where names of code are used, language by language: data only, beside `patterns.py` for definitions.

Every leaf that `LEAVES` lists is a name in use, and a call when a bracket follows it. `QUERIES` says what cannot be
seen from that: `@call` is called all the same, `@import` is a whole import statement, `@bound` is the name of a
parameter or local variable (the same word elsewhere in the file is most likely that), `@skip` is no use of a name:
a key, a label, the name of a field.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

PYTHON = """
(decorator [(identifier) @call (attribute attribute: (identifier) @call)])
[(import_statement) (import_from_statement)] @import
(parameters [(identifier) @bound
  (default_parameter name: (identifier) @bound)
  (typed_parameter (identifier) @bound)
  (typed_default_parameter name: (identifier) @bound)
  (list_splat_pattern (identifier) @bound)
  (dictionary_splat_pattern (identifier) @bound)
  (typed_parameter [(list_splat_pattern (identifier) @bound) (dictionary_splat_pattern (identifier) @bound)])])
(lambda_parameters (identifier) @bound)
(assignment left: (identifier) @bound)
(pattern_list (identifier) @bound)
(for_statement left: (identifier) @bound)
(for_in_clause left: (identifier) @bound)
(as_pattern_target (identifier) @bound)
(named_expression name: (identifier) @bound)
(keyword_argument name: (identifier) @skip)
"""

JAVASCRIPT = """
(call_expression function: [(identifier) @call (member_expression property: (_) @call)])
(new_expression constructor: [(identifier) @call (member_expression property: (_) @call)])
(import_statement) @import
(export_statement source: (_)) @import
(variable_declarator name: (identifier) @bound)
(arrow_function parameter: (identifier) @bound)
(catch_clause parameter: (identifier) @bound)
(for_in_statement left: (identifier) @bound)
(array_pattern (identifier) @bound)
(assignment_pattern left: (identifier) @bound)
(rest_pattern (identifier) @bound)
(pair_pattern value: (identifier) @bound)
(shorthand_property_identifier_pattern) @bound
(pair_pattern key: (property_identifier) @skip)
(pair key: (property_identifier) @skip)
"""

JSX = """
(jsx_opening_element name: (identifier) @call)
(jsx_self_closing_element name: (identifier) @call)
(jsx_attribute (property_identifier) @skip)
"""

UNTYPED = """
(formal_parameters (identifier) @bound)
(field_definition property: (property_identifier) @skip)
"""

TYPESCRIPT = """
(decorator [(identifier) @call (member_expression property: (_) @call)])
(required_parameter pattern: (identifier) @bound)
(optional_parameter pattern: (identifier) @bound)
(property_signature name: (property_identifier) @skip)
(public_field_definition name: (property_identifier) @skip)
(enum_body name: (property_identifier) @skip)
"""

GO = """
(call_expression function: (selector_expression field: (field_identifier) @call))
(import_declaration) @import
(parameter_declaration name: (identifier) @bound)
(variadic_parameter_declaration name: (identifier) @bound)
(short_var_declaration left: (expression_list (identifier) @bound))
(var_spec name: (identifier) @bound)
(range_clause left: (expression_list (identifier) @bound))
(keyed_element . (literal_element (identifier) @skip))
"""

RUST = """
(call_expression function: (field_expression field: (field_identifier) @call))
(generic_function function: (field_expression field: (field_identifier) @call))
(use_declaration) @import
(parameter pattern: (identifier) @bound)
(let_declaration pattern: (identifier) @bound)
(closure_parameters (identifier) @bound)
(tuple_pattern (identifier) @bound)
(tuple_struct_pattern . (_) (identifier) @bound)
(for_expression pattern: (identifier) @bound)
(type_parameter (type_identifier) @bound)
"""

JAVA = """
(import_declaration) @import
(package_declaration) @skip
(formal_parameter name: (identifier) @bound)
(catch_formal_parameter name: (identifier) @bound)
(variable_declarator name: (identifier) @bound)
(enhanced_for_statement name: (identifier) @bound)
(lambda_expression parameters: (identifier) @bound)
(inferred_parameters (identifier) @bound)
(type_parameter (type_identifier) @bound)
(element_value_pair key: (identifier) @skip)
"""

KOTLIN = """
(call_expression . [(simple_identifier) @call
  (navigation_expression (navigation_suffix (simple_identifier) @call))])
(import_header) @import
(package_header) @skip
(parameter (simple_identifier) @bound)
(class_parameter (simple_identifier) @bound)
(variable_declaration (simple_identifier) @bound)
(value_argument (simple_identifier) @skip "=")
"""

C = """
(call_expression function: (field_expression field: (field_identifier) @call))
(preproc_include) @import
(parameter_declaration declarator: [(identifier) @bound
  (pointer_declarator declarator: (identifier) @bound)
  (pointer_declarator declarator: (pointer_declarator declarator: (identifier) @bound))
  (array_declarator declarator: (identifier) @bound)])
(init_declarator declarator: [(identifier) @bound (pointer_declarator declarator: (identifier) @bound)])
(declaration declarator: [(identifier) @bound (pointer_declarator declarator: (identifier) @bound)])
"""

CPP = """
(using_declaration) @import
(parameter_declaration declarator: (reference_declarator (identifier) @bound))
(init_declarator declarator: (reference_declarator (identifier) @bound))
(for_range_loop declarator: [(identifier) @bound (reference_declarator (identifier) @bound)])
(template_parameter_list [
  (type_parameter_declaration (type_identifier) @bound)
  (variadic_type_parameter_declaration (type_identifier) @bound)
  (optional_type_parameter_declaration name: (type_identifier) @bound)])
(lambda_capture_specifier (identifier) @bound)
"""

CSHARP = """
(using_directive) @import
(parameter name: (identifier) @bound)
(variable_declarator name: (identifier) @bound)
(foreach_statement left: (identifier) @bound)
(type_parameter name: (identifier) @bound)
(argument name: (identifier) @skip)
"""

PHP = """
(namespace_use_declaration) @import
(namespace_definition name: (_) @skip)
(variable_name (name) @skip)
"""

RUBY = """
(method_parameters [(identifier) @bound (_ name: (identifier) @bound)])
(block_parameters [(identifier) @bound (_ name: (identifier) @bound)])
(lambda_parameters (identifier) @bound)
(assignment left: (identifier) @bound)
(left_assignment_list (identifier) @bound)
(operator_assignment left: (identifier) @bound)
(exception_variable (identifier) @bound)
"""

SCALA = """
(call_expression function: [(identifier) @call (field_expression field: (identifier) @call)])
(infix_expression operator: (identifier) @call)
(instance_expression (type_identifier) @call)
(import_declaration) @import
(package_clause name: (_) @skip)
(parameter name: (identifier) @bound)
(class_parameter name: (identifier) @bound)
(val_definition pattern: (identifier) @bound)
(var_definition pattern: (identifier) @bound)
"""

SWIFT = """
(call_expression . [(simple_identifier) @call
  (navigation_expression suffix: (navigation_suffix suffix: (simple_identifier) @call))])
(constructor_expression constructed_type: (user_type (type_identifier) @call))
(import_declaration) @import
(parameter name: (simple_identifier) @bound)
(parameter external_name: (simple_identifier) @skip)
(pattern bound_identifier: (simple_identifier) @bound)
(value_argument_label (simple_identifier) @skip)
"""

ELIXIR = """
(call target: [(identifier) @call (dot right: (identifier) @call)])
(binary_operator operator: "|>" right: (identifier) @call)
(stab_clause left: (arguments (identifier) @bound))
(binary_operator left: (identifier) @bound operator: "=")
(call target: (identifier) (arguments . [
  (call target: (identifier) (arguments (identifier) @bound))
  (binary_operator left: (call target: (identifier) (arguments (identifier) @bound)))]))
(unary_operator operand: (call target: (identifier)
  (arguments (binary_operator left: (call target: (identifier) @skip) operator: "::"))))
"""

LUA = """
(function_call name: [(identifier) @call
  (dot_index_expression field: (identifier) @call)
  (method_index_expression method: (identifier) @call)])
(parameters name: (identifier) @bound)
(variable_declaration (assignment_statement (variable_list name: (identifier) @bound)))
(for_generic_clause (variable_list name: (identifier) @bound))
(for_numeric_clause name: (identifier) @bound)
(field name: (identifier) @skip)
"""

BASH = """
(command_name (word) @call)
"""

HASKELL = """
(import) @import
(header) @skip
(patterns (variable) @bound)
(local_binds decl: (bind name: (variable) @bound))
(signature name: (variable) @skip)
"""

ZIG = """
(ParamDecl parameter: (IDENTIFIER) @bound)
(Payload (IDENTIFIER) @bound)
(PtrPayload (IDENTIFIER) @bound)
(PtrIndexPayload (IDENTIFIER) @bound)
(Statement (VarDecl variable_type_function: (IDENTIFIER) @bound))
(ContainerField . field_member: (IDENTIFIER) @skip)
"""

QUERIES: Mapping[str, str] = MappingProxyType(
    {
        "python": PYTHON,
        "javascript": JAVASCRIPT + JSX + UNTYPED,
        "typescript": JAVASCRIPT + TYPESCRIPT,
        "tsx": JAVASCRIPT + TYPESCRIPT + JSX,
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


@dataclass(frozen=True, slots=True)
class Leaves:
    """The kinds of leaves that are names: of anything, and of types alone.

    With `all_calls` a name that is not bound in the file is a call: the language calls without brackets.
    """

    names: tuple[str, ...]
    types: tuple[str, ...] = ()
    all_calls: bool = False


_JAVASCRIPT = (
    "identifier",
    "property_identifier",
    "private_property_identifier",
    "shorthand_property_identifier",
)
_PLAIN = Leaves(("identifier",), ("type_identifier",))

LEAVES: Mapping[str, Leaves] = MappingProxyType(
    {
        "python": Leaves(("identifier",)),
        "javascript": Leaves(_JAVASCRIPT),
        "typescript": Leaves(_JAVASCRIPT, ("type_identifier",)),
        "tsx": Leaves(_JAVASCRIPT, ("type_identifier",)),
        "go": _PLAIN,
        "rust": _PLAIN,
        "java": _PLAIN,
        "kotlin": Leaves(("simple_identifier",), ("type_identifier",)),
        "c": _PLAIN,
        "cpp": Leaves(("identifier",), ("type_identifier", "namespace_identifier")),
        "csharp": Leaves(("identifier",)),
        "php": Leaves(("name",)),
        "ruby": Leaves(("identifier",), ("constant",), all_calls=True),
        "scala": _PLAIN,
        "swift": Leaves(("simple_identifier",), ("type_identifier",)),
        "elixir": Leaves(("identifier",), ("alias",)),
        "lua": Leaves(("identifier",)),
        "bash": Leaves(()),
        "haskell": Leaves(("variable",), ("name", "constructor"), all_calls=True),
        "zig": Leaves(("IDENTIFIER",)),
        "ocaml": Leaves(
            ("value_name", "constructor_name"), ("type_constructor", "module_name"), all_calls=True
        ),
    }
)

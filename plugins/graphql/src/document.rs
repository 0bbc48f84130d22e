//! Finds in a document what a cache wants to know: its operations, the fields that they ask for first,
//! and whether the response will name the type of each object in it.
//!
//! It follows the grammar (GraphQL specification, October 2021, §2.2 to §2.12) as far as that takes,
//! without recursion, and knows no schema.

use crate::lexer::Kind;
use crate::lexer::Token;
use crate::lexer::joined;
use crate::lexer::tokens;

/// More than any client sends; it bounds the time of a call.
const MOST_FRAGMENTS: usize = 256;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Does {
    Query,
    Mutation,
    Subscription,
}

/// A document that was understood.
#[derive(Debug)]
pub(crate) struct Document<'a> {
    tokens: Vec<Token<'a>>,
    operations: Vec<(Does, Option<&'a str>, Selections<'a>)>,
    fragments: Vec<(&'a str, Selections<'a>)>,
}

/// An operation of a document.
#[derive(Debug)]
pub(crate) struct Operation<'a> {
    pub(crate) does: Does,
    /// The fields of the root, through all fragments; some perhaps twice.
    pub(crate) fields: Vec<Field<'a>>,
}

/// A field of the root.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Field<'a> {
    /// Its own name, not its alias.
    pub(crate) name: &'a str,
    /// Whether every object below it says its `__typename`. An object is one of the response's, so a
    /// field that asks for none is not typed.
    pub(crate) is_typed: bool,
}

/// What stands between the outermost braces of an operation or a fragment.
#[derive(Debug, Default)]
struct Selections<'a> {
    fields: Vec<Field<'a>>,
    /// The fragments that are spread beside the fields.
    spreads: Vec<&'a str>,
    /// Whether every field with a selection, at any depth, asks for `__typename` in it.
    is_typed: bool,
}

impl<'a> Document<'a> {
    /// None if it is not understood.
    pub(crate) fn read(text: &'a str) -> Option<Self> {
        let tokens = tokens(text)?;
        let (mut operations, mut fragments) = (Vec::new(), Vec::new());
        let mut reader = Reader { tokens: &tokens, at: 0 };
        while let Some(token) = reader.peek() {
            let does = match token.text {
                "{" => {
                    let selections = reader.selections()?;
                    operations.push((Does::Query, None, selections));
                    continue;
                }
                "fragment" => {
                    reader.next();
                    if fragments.len() == MOST_FRAGMENTS {
                        return None;
                    }
                    let name = reader.name().filter(|name| *name != "on")?;
                    reader.expect("on")?;
                    reader.name()?;
                    reader.directives()?;
                    fragments.push((name, reader.selections()?));
                    continue;
                }
                "query" => Does::Query,
                "mutation" => Does::Mutation,
                "subscription" => Does::Subscription,
                _ => return None,
            };
            reader.next();
            let name = reader.name();
            reader.balanced_if("(")?;
            reader.directives()?;
            operations.push((does, name, reader.selections()?));
        }
        Some(Self { tokens, operations, fragments })
    }

    /// Without what is ignored, in one form.
    pub(crate) fn form(&self) -> String {
        joined(&self.tokens)
    }

    /// The operation that is meant: the one of that name, or the only one. None if there is no such
    /// operation, or more than one.
    pub(crate) fn operation(&self, name: Option<&str>) -> Option<Operation<'a>> {
        let mut meant = self.operations.iter().filter(|(_, has, _)| name.is_none() || *has == name);
        let (does, _, selections) = meant.next()?;
        if meant.next().is_some() {
            return None;
        }
        // Fragments used or not, at the root or below: one that leaves types out may be anywhere.
        let has_typed_fragments = self.fragments.iter().all(|(_, inner)| inner.is_typed);
        let mut fields = selections.fields.clone();
        let mut spread = Vec::new();
        let mut waiting = selections.spreads.clone();
        while let Some(name) = waiting.pop() {
            if spread.contains(&name) {
                continue;
            }
            spread.push(name);
            let (_, inner) = self.fragments.iter().find(|(has, _)| *has == name)?;
            fields.extend_from_slice(&inner.fields);
            waiting.extend_from_slice(&inner.spreads);
        }
        for field in &mut fields {
            field.is_typed &= has_typed_fragments;
        }
        Some(Operation { does: *does, fields })
    }
}

struct Reader<'a, 't> {
    tokens: &'t [Token<'a>],
    at: usize,
}

/// A pair of braces that is open.
struct Open {
    /// The selection of a field, which is an object; otherwise one of a fragment.
    is_field: bool,
    /// Whether its fields are fields of the root.
    is_root: bool,
    has_typename: bool,
}

impl<'a> Reader<'a, '_> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).copied()
    }

    fn next(&mut self) -> Option<Token<'a>> {
        let token = self.peek()?;
        self.at += 1;
        Some(token)
    }

    fn is_next(&self, text: &str) -> bool {
        self.peek().is_some_and(|token| token.text == text)
    }

    fn expect(&mut self, text: &str) -> Option<()> {
        (self.next()?.text == text).then_some(())
    }

    /// A name, if one is next.
    fn name(&mut self) -> Option<&'a str> {
        let token = self.peek().filter(|token| token.kind == Kind::Name)?;
        self.at += 1;
        Some(token.text)
    }

    /// Passes `@name(…)`, any number of times. Tells whether there was one.
    fn directives(&mut self) -> Option<bool> {
        let mut has_some = false;
        while self.is_next("@") {
            self.next();
            self.name()?;
            self.balanced_if("(")?;
            has_some = true;
        }
        Some(has_some)
    }

    /// Passes brackets and what is in them, if this is what opens next.
    fn balanced_if(&mut self, open: &str) -> Option<()> {
        if !self.is_next(open) {
            return Some(());
        }
        let mut closing = Vec::new();
        loop {
            match self.next()?.text {
                "(" => closing.push(")"),
                "[" => closing.push("]"),
                "{" => closing.push("}"),
                close @ (")" | "]" | "}") => {
                    if closing.pop() != Some(close) {
                        return None;
                    }
                    if closing.is_empty() {
                        return Some(());
                    }
                }
                _ => {}
            }
        }
    }

    /// Passes `{…}` of an operation or a fragment.
    fn selections(&mut self) -> Option<Selections<'a>> {
        self.expect("{")?;
        let mut found = Selections { is_typed: true, ..Selections::default() };
        let mut open = vec![Open { is_field: false, is_root: true, has_typename: false }];
        while let Some(level) = open.last_mut() {
            if self.is_next("}") {
                self.next();
                if level.is_field && !level.has_typename {
                    found.is_typed = false;
                    // Braces below the root are those of its last field.
                    if let Some(field) = found.fields.last_mut() {
                        field.is_typed = false;
                    }
                }
                open.pop();
            } else if self.is_next("...") {
                self.next();
                let is_root = level.is_root;
                match self.name() {
                    Some(name) if name != "on" => {
                        self.directives()?;
                        if is_root {
                            found.spreads.push(name);
                        }
                    }
                    condition => {
                        if condition.is_some() {
                            self.name()?;
                        }
                        self.directives()?;
                        self.expect("{")?;
                        open.push(Open { is_field: false, is_root, has_typename: false });
                    }
                }
            } else {
                let first = self.name()?;
                let is_aliased = self.is_next(":");
                let name = if is_aliased {
                    self.next();
                    self.name()?
                } else {
                    first
                };
                self.balanced_if("(")?;
                let is_conditional = self.directives()?;
                let is_object = self.is_next("{");
                // `__typename @skip(if: true)` says nothing.
                level.has_typename |= name == "__typename" && !is_aliased && !is_conditional;
                if level.is_root && name != "__typename" {
                    found.fields.push(Field { name, is_typed: is_object });
                }
                if is_object {
                    self.next();
                    open.push(Open { is_field: true, is_root: false, has_typename: false });
                }
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_policy::testing::Numbers;

    /// What an operation does and its root's fields, those that are typed with a `+`.
    fn shown(document: &str, name: Option<&str>) -> Option<String> {
        let document = Document::read(document)?;
        let operation = document.operation(name)?;
        let does = match operation.does {
            Does::Query => "query",
            Does::Mutation => "mutation",
            Does::Subscription => "subscription",
        };
        let fields = operation.fields.iter();
        let fields =
            fields.map(|field| format!(" {}{}", field.name, if field.is_typed { "+" } else { "" }));
        Some(format!("{does}{}", fields.collect::<String>()))
    }

    #[test]
    fn the_operation_that_is_meant_is_found() {
        let two = "query A { a } mutation B { b } fragment F on T { c }";
        for (document, name, expected) in [
            ("{ a }", None, Some("query a")),
            ("query { a }", None, Some("query a")),
            ("query mutation { a }", None, Some("query a")),
            ("mutation query { a }", None, Some("mutation a")),
            ("mutation { a }", None, Some("mutation a")),
            ("subscription S { a }", Some("S"), Some("subscription a")),
            ("# query {\nmutation{a}", None, Some("mutation a")),
            ("query ($a: [In!]! = [{x: {y: \"{\"}}] @d(x: 1)) @d { a }", None, Some("query a")),
            (two, Some("A"), Some("query a")),
            (two, Some("B"), Some("mutation b")),
            (two, Some("C"), None),
            (two, Some("F"), None),
            (two, None, None),
            ("query A { a } query A { b }", Some("A"), None),
            ("fragment F on T { c }", None, None),
            ("", None, None),
        ] {
            assert_eq!(shown(document, name).as_deref(), expected, "{document} {name:?}");
        }
    }

    #[test]
    fn root_fields_are_found_by_their_names() {
        for (document, expected) in [
            ("{ x: a b(c: {d: [e]}) @f(g: \"}\") c { d } }", "query a b c"),
            ("{ ... on Query { a ... { b } } ... @d { c } }", "query a b c"),
            (
                "{ ...F a } fragment F on Query { b ...G } fragment G on Query { c ...F }",
                "query a b c",
            ),
            ("{ a { ...F } } fragment F on T { b }", "query a"),
            ("{ __typename a }", "query a"),
            ("{ on fragment query: mutation }", "query on fragment mutation"),
        ] {
            assert_eq!(shown(document, None).as_deref(), Some(expected), "{document}");
        }
        assert_eq!(shown("{ ...F }", None), None, "there is no such fragment");
    }

    #[test]
    fn a_field_is_typed_if_every_object_below_it_is() {
        for (document, expected) in [
            ("{ a { __typename b } }", "query a+"),
            ("{ a { b __typename } c { d } }", "query a+ c"),
            ("{ a { __typename b { c } } }", "query a"),
            ("{ a { __typename b { __typename c } } }", "query a+"),
            ("{ a { b { __typename } } }", "query a"),
            ("{ a { x: __typename } }", "query a"),
            ("{ a { __typename: b } }", "query a"),
            ("{ a { __typename @skip(if: $x) } }", "query a"),
            ("{ a { __typename ... on U { b } ... { c } } }", "query a+"),
            ("{ a { ... on U { __typename } } }", "query a"),
            ("{ a { __typename ...F } } fragment F on U { b }", "query a+"),
            ("{ a { ...F } } fragment F on U { __typename }", "query a"),
            ("{ a { __typename ...F } } fragment F on U { b { c } }", "query a"),
            ("{ a { __typename } ...F } fragment F on Q { b { __typename } }", "query a+ b+"),
            ("{ ... on Q { a { b } } c { __typename } }", "query a c+"),
            ("{ a }", "query a"),
        ] {
            assert_eq!(shown(document, None).as_deref(), Some(expected), "{document}");
        }
    }

    #[test]
    fn what_is_not_grammar_is_not_understood() {
        for document in [
            "{",
            "}",
            "{ a",
            "{ a }}",
            "{ a { b }",
            "query",
            "query Q",
            "query { a } b",
            "query Q R { a }",
            "{ a( }",
            "{ a(b: [1)] }",
            "{ a: }",
            "{ : a }",
            "{ 1 }",
            "{ \"a\" }",
            "{ ... }",
            "{ ...on }",
            "{ @d }",
            "{ a @ }",
            "{ $a }",
            "fragment on on T { a }",
            "fragment F { a }",
            "fragment F(x: 1) on T { a }",
            "type T { a: Int }",
            "extend type T { a: Int }",
            "schema { query: Q }",
            "\"about\" query { a }",
            "query (a { b }",
            "{ a ! }",
            "[{ a }]",
            "quer\u{fffd}y { a }",
        ] {
            assert!(Document::read(document).is_none(), "{document}");
        }
    }

    #[test]
    fn depth_costs_no_stack() {
        let deep = |count: usize| format!("{}{}", "{a".repeat(count), "}".repeat(count));
        assert!(Document::read(&deep(6_000)).is_some());
        assert!(Document::read(&deep(1_000_000)).is_none());
        let brackets = format!("{{a(x:{}{})}}", "[".repeat(9_000), "]".repeat(9_000));
        assert!(Document::read(&brackets).is_some());
    }

    /// No document may trap a policy.
    #[test]
    fn any_document_is_read_or_refused() {
        let seed =
            "query Q($a:Int=1){x:a(b:\"c\"){__typename ...F ...on U@d{e}}}fragment F on T{f}";
        let mut numbers = Numbers::from(11);
        for _ in 0..20_000 {
            let text = numbers.mutated(seed, 3);
            if let Some(document) = Document::read(&text) {
                let form = document.form();
                let again = Document::read(&form).unwrap();
                assert_eq!(again.form(), form);
                let name = again.operations.first().and_then(|(_, name, _)| *name);
                assert_eq!(shown(&text, name), shown(&form, name), "{text}");
            }
        }
    }
}

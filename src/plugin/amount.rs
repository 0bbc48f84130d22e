//! How much a plugin may hold of what is dear to compile.
//!
//! A file may be large: an interpreter is. But the compiler takes some kilobytes of memory for each
//! initial value of a table, and more time for a function than in proportion to its length, so that a
//! file of two megabytes could take minutes and all memory. What plugins are made of stays far below.

use wasmparser::{ElementItems, Parser, Payload};

use super::nesting::Nesting;

/// Initial values of tables, segments of data, and globals, all together. JavaScript plugins have up to
/// 18,000.
const MOST_INITIAL: u64 = 65_536;

/// The longest function, in octets. In JavaScript plugins it has 170,000.
const LONGEST_FUNCTION: usize = 1 << 20;

/// The pages of 64 KiB that a small plugin may begin with.
const SMALL: u64 = 1;

/// Measures a component with all modules inside. What is no WebAssembly has nothing to measure: the
/// engine says what is wrong with it.
pub(super) fn check(component: &[u8]) -> Result<(), String> {
    let mut initial = 0_u64;
    let mut nesting = Nesting::default();
    for payload in Parser::new(0).parse_all(component) {
        let Ok(payload) = payload else { return Ok(()) };
        nesting.read(&payload)?;
        match payload {
            Payload::ElementSection(segments) => {
                for segment in segments.into_iter().map_while(Result::ok) {
                    initial += u64::from(match segment.items {
                        ElementItems::Functions(items) => items.count(),
                        ElementItems::Expressions(_, items) => items.count(),
                    });
                }
            }
            Payload::DataSection(segments) => initial += u64::from(segments.count()),
            Payload::GlobalSection(globals) => initial += u64::from(globals.count()),
            Payload::CodeSectionEntry(body) if body.range().len() > LONGEST_FUNCTION => {
                return Err(format!("a function has more than {LONGEST_FUNCTION} octets"));
            }
            _ => {}
        }
        if initial > MOST_INITIAL {
            return Err(format!("it has more than {MOST_INITIAL} initial values and globals"));
        }
    }
    Ok(())
}

/// Whether a component begins with so little memory that a fresh one is to be had for less.
pub(super) fn is_small(component: &[u8]) -> bool {
    let (mut memories, mut pages) = (0, 0_u64);
    for payload in Parser::new(0).parse_all(component) {
        match payload {
            Ok(Payload::MemorySection(section)) => {
                for memory in section.into_iter().map_while(Result::ok) {
                    memories += 1;
                    pages = pages.saturating_add(memory.initial);
                }
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    memories <= 1 && pages <= SMALL
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(wat: &str) -> Result<(), String> {
        check(&wat::parse_str(wat).unwrap())
    }

    #[test]
    fn one_page_of_memory_is_small() {
        for (wat, expected) in [
            ("(module)", true),
            ("(module (memory 1 200))", true),
            ("(module (memory 2))", false),
            ("(module (memory 1) (memory 0))", false),
            ("(component (core module (memory 1)) (core module (table 1 funcref)))", true),
            ("(component (core module (memory 1)) (core module (memory 1)))", false),
        ] {
            assert_eq!(is_small(&wat::parse_str(wat).unwrap()), expected, "{wat}");
        }
        assert!(!is_small(b"\0asm\x0d\0\x01\0garbage"));
    }

    #[test]
    fn what_is_dear_to_compile_is_bounded() {
        let elements = |count: usize| {
            let items = "$f ".repeat(count / 4);
            let segment = format!("(elem (i32.const 0) func {items})");
            format!("(module (table 20000 funcref) (func $f) {})", segment.repeat(4))
        };
        let expressions = "(elem (i32.const 0) funcref (ref.null func) (ref.null func))";
        let globals = "(global i32 (i32.const 0)) (data (i32.const 0) \"a\")";
        let function = |count: usize| format!("(module (func {}))", "nop ".repeat(count));
        for (wat, holds, why) in [
            (elements(65_536), true, "as many as may be"),
            (elements(65_540), false, "four elements more"),
            (
                format!(
                    "(component (core module (table 1 funcref) {}))",
                    expressions.repeat(32_769)
                ),
                false,
                "inside of a component, as expressions",
            ),
            (format!("(module (memory 1) {})", globals.repeat(32_769)), false, "globals and data"),
            (
                format!(
                    "(component {} {})",
                    elements(40_000).replace("(module", "(core module"),
                    elements(40_000).replace("(module", "(core module")
                ),
                false,
                "two modules",
            ),
            (function((1 << 20) - 10), true, "a long function"),
            (function(1 << 20), false, "a function too long"),
        ] {
            assert_eq!(checked(&wat).is_ok(), holds, "{why}");
        }
        assert_eq!(check(b"\0asm\x0d\0\x01\0garbage"), Ok(()), "for the engine to say");
    }
}

//! Plugins for tests, written as text: `src/plugin/faults/plugin.wat` with code in its places, made
//! into what a guest's compiler leaves. No guest toolchain is needed.

use wit_component::StringEncoding;
use wit_parser::Resolve;

pub(crate) const CONTRACT: &str = include_str!("../../../wit/policy.wit");
const PLUGIN: &str = include_str!("../../../src/plugin/faults/plugin.wat");

/// All of `policy.wit`.
pub(crate) const EVERYTHING: &str = "include larder:policy/policy@0.1.0;";

/// Runs for ever.
pub(crate) const SPIN: &str = "(loop $spin (br $spin))";

/// `plugin.wat` with something in its places, as a core module.
pub(crate) fn fixture(places: &[(&str, &str)]) -> Vec<u8> {
    module_of(CONTRACT, &text(places), EVERYTHING)
}

/// `plugin.wat` with something in its places.
pub(crate) fn text(places: &[(&str, &str)]) -> String {
    let mut wat = PLUGIN.to_owned();
    for (place, text) in places {
        wat = wat.replace(&format!("{{{{{place}}}}}"), text);
    }
    for place in ["key", "storing", "invalidation", "configure", "realloc", "more"] {
        wat = wat.replace(&format!("{{{{{place}}}}}"), "");
    }
    wat
}

/// A core module with the type of this world.
pub(crate) fn module_of(contract: &str, wat: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).unwrap();
    let mut resolve = Resolve::default();
    resolve.push_str("policy.wit", contract).unwrap();
    let text = format!("package larder:tests;\nworld tested {{ {world} }}");
    let package = resolve.push_str("tests.wit", &text).unwrap();
    let world = resolve.select_world(&[package], Some("tested")).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .unwrap();
    module
}

//! What the crate for policies says of the contract, beside the contract itself.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use wit_component::StringEncoding;
use wit_component::metadata;
use wit_parser::Resolve;

use crate::support::plugin::CONTRACT;

const WORLDS: &str = include_str!("../../plugins/sdk/src/worlds.rs");

/// How long a line of `worlds.rs` may be.
const WIDTH: usize = 96;

/// What a plugin may have beside `configure`; `worlds::of` finds a combination of them by its bits.
const INTERFACES: [&str; 3] = ["key", "storing", "invalidation"];

/// A plugin describes the interfaces that it exports, and the crate has the descriptions as octets:
/// nothing reads `policy.wit` where policies are built.
#[test]
fn policies_describe_themselves_as_the_contract_does() {
    let (introduction, _) = WORLDS.split_once("= [\n").unwrap();
    let mut expected = format!("{introduction}= [\n");
    for bits in 1..1 << INTERFACES.len() {
        let has = |index: usize| bits & 1 << index != 0;
        let interfaces = (0..INTERFACES.len()).filter(|index| has(*index));
        let interfaces: Vec<_> = interfaces.map(|index| INTERFACES[index]).collect();
        let literal = literal(&described(&interfaces));
        writeln!(expected, "// {}\nb\"{literal}\",", interfaces.join(", ")).unwrap();
    }
    expected += "];\n";
    if expected != WORLDS {
        let written = Path::new(env!("CARGO_TARGET_TMPDIR")).join("worlds.rs");
        fs::write(&written, expected).unwrap();
        panic!("plugins/sdk/src/worlds.rs is to be as {}: copy it there", written.display());
    }
}

/// A world that exports these interfaces and `configure`, as a `component-type` section holds it.
fn described(interfaces: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("policy.wit", CONTRACT).unwrap();
    let exports = ["configure"].iter().chain(interfaces);
    let exports = exports.map(|interface| format!("export larder:policy/{interface}@0.1.0; "));
    let world = format!(
        "package larder:sdk; world policy {{ import larder:policy/log@0.1.0; {}}}",
        exports.collect::<String>()
    );
    let package = resolve.push_str("sdk.wit", &world).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    metadata::encode(&resolve, world, StringEncoding::UTF8, None).unwrap()
}

/// Octets between the quotes of Rust, in lines.
fn literal(octets: &[u8]) -> String {
    let (mut literal, mut line) = (String::new(), String::new());
    for octet in octets {
        let escaped = match octet {
            0 => "\\0".to_owned(),
            b'"' | b'\\' => format!("\\{}", char::from(*octet)),
            // A space that begins a line would be taken for its indentation.
            b'!'..=b'~' => char::from(*octet).to_string(),
            b' ' if !line.is_empty() => " ".to_owned(),
            _ => format!("\\x{octet:02x}"),
        };
        if line.len() + escaped.len() > WIDTH {
            literal += &line;
            literal += "\\\n";
            line.clear();
        }
        line += if escaped == " " && line.is_empty() { "\\x20" } else { &escaped };
    }
    literal + &line
}

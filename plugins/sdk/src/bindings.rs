//! What wit-bindgen makes of `wit/policy.wit`, and nothing else.
//!
//! The worlds of the contract are fixed sets of interfaces. Here each interface is a world of its
//! own, so that a plugin exports exactly those that it implements: each `export!` leaves a
//! description of its world in the module, and the encoder of components unites them.

#![allow(
    missing_docs,
    unreachable_pub,
    unsafe_code,
    unused_qualifications,
    clippy::pedantic,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    reason = "generated code"
)]

/// The types that all interfaces share, and the log.
pub mod shared {
    wit_bindgen::generate!({
        path: "../../wit",
        inline: "
            package larder:sdk;
            world shared {
                import larder:policy/types@0.1.0;
                import larder:policy/log@0.1.0;
            }
        ",
        world: "larder:sdk/shared",
        additional_derives: [PartialEq],
        generate_all,
    });
}

/// The bindings of one exported interface, with the shared types.
macro_rules! interface {
    ($module:ident, $world:literal, $inline:literal) => {
        pub mod $module {
            wit_bindgen::generate!({
                path: "../../wit",
                inline: $inline,
                world: $world,
                with: { "larder:policy/types@0.1.0": crate::bindings::shared::larder::policy::types },
                additional_derives: [PartialEq],
                pub_export_macro: true,
            });
        }
    };
}

interface!(
    configure,
    "larder:sdk/configure",
    "package larder:sdk; world configure { export larder:policy/configure@0.1.0; }"
);
interface!(
    key,
    "larder:sdk/key",
    "package larder:sdk; world key { export larder:policy/key@0.1.0; }"
);
interface!(
    storing,
    "larder:sdk/storing",
    "package larder:sdk; world storing { export larder:policy/storing@0.1.0; }"
);
interface!(
    invalidation,
    "larder:sdk/invalidation",
    "package larder:sdk; world invalidation { export larder:policy/invalidation@0.1.0; }"
);

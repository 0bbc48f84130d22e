//! The plugins inside the binary, made by the workspace in `plugins/`.

/// By name, sorted.
const BUNDLED: &[(&str, &[u8])] = &[
    ("content-tags", include_bytes!("../../plugins/bundled/content-tags.wasm")),
    ("document-changes", include_bytes!("../../plugins/bundled/document-changes.wasm")),
    ("graphql", include_bytes!("../../plugins/bundled/graphql.wasm")),
    ("normalise-query", include_bytes!("../../plugins/bundled/normalise-query.wasm")),
    ("rest-writes", include_bytes!("../../plugins/bundled/rest-writes.wasm")),
    ("tenant", include_bytes!("../../plugins/bundled/tenant.wasm")),
    ("variants", include_bytes!("../../plugins/bundled/variants.wasm")),
];

/// The component of this name.
pub(super) fn find(name: &str) -> Option<&'static [u8]> {
    BUNDLED.iter().find(|(candidate, _)| *candidate == name).map(|(_, bytes)| *bytes)
}

/// What `bundled:NAME` may name, sorted.
pub fn names() -> impl Iterator<Item = &'static str> {
    BUNDLED.iter().map(|(name, _)| *name)
}

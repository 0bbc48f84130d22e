//! Which version of a policy this is: its plugin and its configuration, as a digest.

use crate::config::Setting;

/// Equal for equal octets of the plugin and equal settings, whatever the file is called.
pub(super) fn digest(plugin: &[u8], settings: &[(String, Setting)]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(blake3::hash(plugin).as_bytes());
    let mut write = |octets: &[u8]| {
        // Each with its length before it, so that different settings never run into the same octets.
        hasher.update(&(octets.len() as u64).to_le_bytes());
        hasher.update(octets);
    };
    for (name, setting) in settings {
        write(name.as_bytes());
        match setting {
            Setting::Boolean(value) => write(&[b'b', u8::from(*value)]),
            Setting::Integer(value) => write(&[&b"i"[..], &value.to_le_bytes()].concat()),
            Setting::Number(value) => write(&[&b"n"[..], &value.to_bits().to_le_bytes()].concat()),
            Setting::Text(value) => write(&[b"t", value.as_bytes()].concat()),
            Setting::Texts(values) => {
                write(b"l");
                write(&(values.len() as u64).to_le_bytes());
                for value in values {
                    write(value.as_bytes());
                }
            }
        }
    }
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_plugin_and_each_list_of_settings_has_a_digest_of_its_own() {
        let text = |text: &str| Setting::Text(text.to_owned());
        let texts =
            |texts: &[&str]| Setting::Texts(texts.iter().map(ToString::to_string).collect());
        let mut digests = Vec::new();
        for (plugin, settings) in [
            (&b"p"[..], vec![]),
            (b"q", vec![]),
            (b"p", vec![("a", text("b"))]),
            (b"p", vec![("a", text("c"))]),
            (b"p", vec![("b", text("b"))]),
            (b"p", vec![("a", texts(&["b"]))]),
            (b"p", vec![("a", texts(&["b", "c"]))]),
            (b"p", vec![("a", texts(&["b"])), ("c", texts(&[]))]),
            (b"p", vec![("a", text("1"))]),
            (b"p", vec![("a", Setting::Integer(1))]),
            (b"p", vec![("a", Setting::Number(1.0))]),
            (b"p", vec![("a", Setting::Boolean(true))]),
        ] {
            let settings: Vec<_> =
                settings.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let told = digest(plugin, &settings);
            assert_eq!(told, digest(plugin, &settings));
            assert!(!digests.contains(&told), "{plugin:?} {settings:?}");
            digests.push(told);
        }
    }
}

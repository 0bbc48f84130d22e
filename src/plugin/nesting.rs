//! What comes of components that have components inside.
//!
//! The compiler writes each instance out with all instances that its component makes, and each component
//! with all that it takes from around it. Of twenty components that each make two instances of the one
//! before, these are a million, in a file of a kilobyte. So they are counted here as they would be
//! written out, in the time that it takes to read the file.
//!
//! What components and modules are handed from one component to another cannot be counted so, and is
//! refused. What makes plugins has no use for that.

use wasmparser::{
    ComponentAlias, ComponentExternalKind, ComponentInstance, ComponentOuterAliasKind, Encoding,
    FromReader, Instance, Payload, SectionLimited,
};

/// Instances of components and modules, all that are written out. JavaScript plugins have 37.
const MOST_INSTANCES: u64 = 256;

/// What components are made of, modules aside, all that is written out. In JavaScript plugins it has
/// 41,000 octets.
const MOST_OCTETS: u64 = 4 << 20;

/// How deep components and modules may lie in each other. In JavaScript plugins it is four.
const DEEPEST: usize = 16;

/// What is counted for a component or module that another takes from around it, in octets.
const HELD: u64 = 16;

/// Reads a file from its beginning to its end.
#[derive(Default)]
pub(super) struct Nesting {
    /// What has begun and not ended, the outermost first.
    open: Vec<Open>,
}

/// A component or a module that is being read.
struct Open {
    encoding: Encoding,
    written: Written,
    /// Those that it may instantiate, as they are numbered in it.
    components: Vec<Written>,
    /// Of each module the imports, in octets: an instance is given all of them.
    modules: Vec<u64>,
}

/// What one instance of a component comes to.
#[derive(Clone, Copy)]
struct Written {
    /// All that it makes, with itself.
    instances: u64,
    /// Of sections that are read again for each instance.
    octets: u64,
    /// What the component takes from around it, in octets: it is copied wherever the component is named.
    held: u64,
}

impl Nesting {
    /// Reads on. What is no component is for the engine to say.
    pub(super) fn read(&mut self, payload: &Payload<'_>) -> Result<(), String> {
        match payload {
            Payload::Version { encoding, .. } => self.begin(*encoding)?,
            Payload::End(_) => self.end(),
            _ => self.section(payload)?,
        }
        self.open.last().map_or(Ok(()), |open| open.written.check())
    }

    fn begin(&mut self, encoding: Encoding) -> Result<(), String> {
        if self.open.len() >= DEEPEST {
            return Err(format!("its components lie in each other more than {DEEPEST} deep"));
        }
        let written = Written { instances: 1, octets: 0, held: HELD };
        self.open.push(Open { encoding, written, components: Vec::new(), modules: Vec::new() });
        Ok(())
    }

    fn end(&mut self) {
        let Some(Open { encoding, written, .. }) = self.open.pop() else { return };
        let Some(around) = self.open.last_mut() else { return };
        match encoding {
            Encoding::Component => {
                around.written.add(0, written.held);
                around.components.push(written);
            }
            Encoding::Module => around.modules.push(written.octets),
        }
    }

    fn section(&mut self, payload: &Payload<'_>) -> Result<(), String> {
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        let octets = open.octets(payload);
        open.written.add(0, octets);
        // Before more is noted of it.
        open.written.check()?;
        match payload {
            Payload::InstanceSection(section) => {
                items(section).for_each(|instance| open.instantiate_module(&instance));
                Ok(())
            }
            Payload::ComponentInstanceSection(section) => {
                items(section).try_for_each(|instance| open.instantiate(&instance))
            }
            Payload::ComponentAliasSection(section) => {
                items(section).try_for_each(|alias| self.alias(&alias))
            }
            Payload::ComponentImportSection(section) => {
                items(section).try_for_each(|import| hands_over(import.ty.kind()))
            }
            Payload::ComponentExportSection(section) => {
                items(section).try_for_each(|export| hands_over(export.kind))
            }
            _ => Ok(()),
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'_>) -> Result<(), String> {
        match *alias {
            ComponentAlias::InstanceExport { kind, .. } => hands_over(kind)?,
            ComponentAlias::Outer { kind, count, index } => {
                self.hold(kind, place(count), place(index));
            }
            ComponentAlias::CoreInstanceExport { .. } => {}
        }
        Ok(())
    }

    /// The innermost takes something from the component that is so many further out.
    fn hold(&mut self, kind: ComponentOuterAliasKind, further: usize, index: usize) {
        let from = self.open.iter().rev().nth(further);
        let component = from.and_then(|open| open.components.get(index)).copied();
        let module = from.and_then(|open| open.modules.get(index)).copied();
        match (kind, component, module) {
            (ComponentOuterAliasKind::Component, Some(component), _) => {
                if let Some(innermost) = self.take(further, component.held) {
                    innermost.components.push(component);
                }
            }
            (ComponentOuterAliasKind::CoreModule, _, Some(imports)) => {
                if let Some(innermost) = self.take(further, HELD) {
                    innermost.modules.push(imports);
                }
            }
            _ => {}
        }
    }

    /// All on the way to the innermost, which it returns, take so much, each from the one around it.
    fn take(&mut self, further: usize, held: u64) -> Option<&mut Open> {
        for open in self.open.iter_mut().rev().take(further) {
            open.written.held = open.written.held.saturating_add(held);
        }
        let innermost = self.open.last_mut()?;
        innermost.written.add(0, held);
        Some(innermost)
    }
}

impl Open {
    /// What a section adds to each instance. Modules are compiled once.
    fn octets(&self, payload: &Payload<'_>) -> u64 {
        let adds = match payload {
            Payload::ModuleSection { .. }
            | Payload::ComponentSection { .. }
            | Payload::CustomSection(_) => false,
            Payload::ImportSection(_) => true,
            _ => self.encoding == Encoding::Component,
        };
        let section = payload.as_section().filter(|_| adds);
        section.map_or(0, |(_, range)| range.len() as u64)
    }

    fn instantiate_module(&mut self, instance: &Instance<'_>) {
        if let Instance::Instantiate { module_index, .. } = instance
            && let Some(imports) = self.modules.get(place(*module_index))
        {
            self.written.add(1, *imports);
        }
    }

    fn instantiate(&mut self, instance: &ComponentInstance<'_>) -> Result<(), String> {
        match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                if let Some(made) = self.components.get(place(*component_index)) {
                    self.written.add(made.instances, made.octets.saturating_add(made.held));
                }
                args.iter().try_for_each(|arg| hands_over(arg.kind))
            }
            ComponentInstance::FromExports(exports) => {
                exports.iter().try_for_each(|export| hands_over(export.kind))
            }
        }
    }
}

impl Written {
    fn add(&mut self, instances: u64, octets: u64) {
        self.instances = self.instances.saturating_add(instances);
        self.octets = self.octets.saturating_add(octets);
    }

    fn check(self) -> Result<(), String> {
        if self.instances > MOST_INSTANCES {
            return Err(format!(
                "it instantiates more than {MOST_INSTANCES} components and modules"
            ));
        }
        if self.octets.max(self.held) > MOST_OCTETS {
            return Err(format!(
                "its components have more than {MOST_OCTETS} octets, each counted as often as it is \
                 instantiated or taken into another"
            ));
        }
        Ok(())
    }
}

/// Refuses what the file itself does not tell all of.
fn hands_over(kind: ComponentExternalKind) -> Result<(), String> {
    if matches!(kind, ComponentExternalKind::Component | ComponentExternalKind::Module) {
        return Err("a component in it is given a component or module, or gives one".to_owned());
    }
    Ok(())
}

/// The items of a section, up to a fault.
fn items<'a, T: FromReader<'a>>(section: &SectionLimited<'a, T>) -> impl Iterator<Item = T> {
    section.clone().into_iter().map_while(Result::ok)
}

fn place(index: u32) -> usize {
    usize::try_from(index).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use wasmparser::Parser;

    use super::*;

    fn checked(wat: &str) -> Result<(), String> {
        let octets = wat::parse_str(wat).unwrap();
        let mut nesting = Nesting::default();
        let mut payloads = Parser::new(0).parse_all(&octets);
        payloads.try_for_each(|payload| nesting.read(&payload.unwrap()))
    }

    /// A component with so many inside. Each but the first has the one before, as `$below`, and this in
    /// it, where `BELOW` is the number of that.
    fn tower(levels: usize, in_each: &str, rest: &str) -> String {
        let above = |below: usize| {
            let in_each = in_each.replace("BELOW", &below.to_string());
            format!("(component (alias outer 1 {below} (component $below)) {in_each})")
        };
        let levels: String = (0..levels - 1).map(above).collect();
        format!("(component (component) {levels} {rest})")
    }

    #[test]
    fn what_is_written_out_is_bounded() {
        const INSTANCES: &str = "instantiates more than 256";
        const OCTETS: &str = "more than 4194304 octets";
        const DEEP: &str = "more than 16 deep";
        let two = "(instance (instantiate $below)) ".repeat(2);
        let modules = |name: usize, count: usize| {
            let name = "x".repeat(name);
            let module = format!("(core module $m (import \"a\" \"{name}\" (func)))");
            format!("(component {module} {})", "(core instance (instantiate $m))".repeat(count))
        };
        let inside = |depth: usize| "(component ".repeat(depth) + &")".repeat(depth);
        let top = "(instance (instantiate 7))";
        let aliases = "(component (alias outer 2 0 (core module)))".repeat(1000);
        let takes = format!("(component $takes {aliases})");
        let instances = "(instance (instantiate $takes))".repeat(255);
        for (wat, expected, why) in [
            (tower(8, &two, top), None, "2 to the 8th, the outermost among them"),
            (tower(8, &two, &top.repeat(2)), Some(INSTANCES), "once more"),
            (tower(24, &two, ""), Some(INSTANCES), "though nobody asks for it"),
            (tower(24, "", ""), None, "each has the one before it"),
            (tower(24, "(alias outer 1 0 (component))", ""), None, "and the first"),
            (tower(24, "(alias outer 1 BELOW (component))", ""), Some(OCTETS), "has it twice"),
            (format!("(component (core module) {takes} {instances})"), Some(OCTETS), "modules"),
            (modules(1, 255), None, "as many as may be"),
            (modules(1, 256), Some(INSTANCES), "one more"),
            (modules(50_000, 80), None, "each is given all imports"),
            (modules(50_000, 90), Some(OCTETS), "of them more than may be"),
            (inside(16), None, "as deep as may be"),
            (inside(17), Some(DEEP), "deeper"),
        ] {
            let checked = checked(&wat);
            let holds = match (&checked, expected) {
                (Ok(()), None) => true,
                (Err(told), Some(expected)) => told.contains(expected),
                _ => false,
            };
            assert!(holds, "{why}: {checked:?}");
        }
    }

    #[test]
    fn what_is_handed_over_is_refused() {
        for wat in [
            "(component (import \"c\" (component)))",
            "(component (import \"m\" (core module)))",
            "(component (component (import \"c\" (component))))",
            "(component (component $c) (export \"c\" (component $c)))",
            "(component (component $c) (instance (export \"c\" (component $c))))",
            "(component (component $c) (instance (instantiate $c (with \"a\" (component $c)))))",
            "(component (component $c) (instance $i (instantiate $c))
               (alias export $i \"c\" (component)))",
        ] {
            let told = checked(wat).unwrap_err();
            assert_eq!(
                told, "a component in it is given a component or module, or gives one",
                "{wat}"
            );
        }
        let shim = "(component (import \"f\" (func $f)) (export \"i\" (func $f)))";
        assert_eq!(checked(shim), Ok(()));
    }
}

//! What a plugin exports, looked up and checked against the contract once, when it is loaded.

use std::marker::PhantomData;
use std::sync::Arc;

use wasmtime::component::{
    Component, ComponentExportIndex, ComponentNamedList, ComponentType, Instance, Lift, Lower,
    TypedFunc,
};
use wasmtime::{AsContextMut, Store};

use super::bindings::types::{Request, Response, Setting};
use super::bindings::{Configured, invalidation, key, storing};
use super::sandbox::State;

/// What `configure` handed on to later calls.
pub(super) type Prepared = Arc<[u8]>;

/// A function of the contract that answers `result<Answer, string>`.
pub(super) struct Export<Arguments, Answer> {
    index: ComponentExportIndex,
    types: PhantomData<fn(Arguments) -> Answer>,
}

/// Derived, they would ask the same of the types, which are only names here.
impl<Arguments, Answer> Clone for Export<Arguments, Answer> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<Arguments, Answer> Copy for Export<Arguments, Answer> {}

/// Those of the four functions that a plugin has.
#[derive(Clone, Copy)]
pub(super) struct Exports {
    pub(super) configure: Option<Export<(Vec<Setting>,), Configured>>,
    pub(super) key: Option<Export<(Prepared, Request), key::Decision>>,
    pub(super) storing: Option<Export<(Prepared, Request, Response), storing::Decision>>,
    pub(super) invalidation:
        Option<Export<(Prepared, invalidation::Cause), Vec<invalidation::Invalidated>>>,
}

impl Exports {
    pub(super) fn find(component: &Component) -> Self {
        Self {
            configure: Export::find(component, "configure"),
            key: Export::find(component, "key"),
            storing: Export::find(component, "storing"),
            invalidation: Export::find(component, "invalidation"),
        }
    }

    /// Whether each has the types of the contract.
    pub(super) fn check(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> wasmtime::Result<()> {
        self.configure.map(|export| export.function(&mut *store, instance)).transpose()?;
        self.key.map(|export| export.function(&mut *store, instance)).transpose()?;
        self.storing.map(|export| export.function(&mut *store, instance)).transpose()?;
        self.invalidation.map(|export| export.function(&mut *store, instance)).transpose()?;
        Ok(())
    }
}

impl<Arguments, Answer> Export<Arguments, Answer>
where
    Arguments: ComponentNamedList + Lower,
    Answer: ComponentType + Lift,
{
    /// In the contract each function has the name of its interface.
    fn find(component: &Component, name: &str) -> Option<Self> {
        let interface = format!("larder:policy/{name}@0.1.0");
        let interface = component.get_export_index(None, &interface)?;
        let index = component.get_export_index(Some(&interface), name)?;
        Some(Self { index, types: PhantomData })
    }

    /// The function in an instance.
    pub(super) fn function(
        &self,
        store: impl AsContextMut,
        instance: &Instance,
    ) -> wasmtime::Result<TypedFunc<Arguments, (Result<Answer, String>,)>> {
        instance.get_typed_func(store, self.index)
    }
}

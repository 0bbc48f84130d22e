//! How calls and answers lie in a plugin's memory: the canonical ABI of the component model, for the
//! functions of `wit/policy.wit` and nothing else.
//!
//! A record is its fields, one after the other, each aligned as C aligns it. A string or a list is an
//! address and a length; a variant or an option an octet that says which case it is, and the case.
//! Arguments that are more than sixteen numbers, and every answer, lie in memory, and their address is
//! passed.
//!
//! Everything that the host passes is the callee's. Nothing is given back: the instance is gone after
//! the call, so that freeing would be work for nothing. For the same reason no `cabi_post_` function
//! is exported.
//!
//! Generated bindings do the same once for each function. Written by hand, what several functions
//! take is read in one place, which makes a plugin a good deal smaller; and a policy is built without
//! any other crate. The gateway's test `contract` compares [`worlds`](crate::worlds) with the contract,
//! and the cases of the bundled plugins try what is read here.

#![expect(unsafe_code, reason = "values are read where the host wrote them")]

use std::alloc;
use std::alloc::Layout;
use std::mem::ManuallyDrop;
use std::slice;

use crate::Cause;
use crate::Change;
use crate::Exported;
use crate::Invalidated;
use crate::Invalidation;
use crate::Key;
use crate::KeyDecision;
use crate::Operation;
use crate::Pair;
use crate::Parameter;
use crate::Policy;
use crate::Request;
use crate::Response;
use crate::Scope;
use crate::Setting;
use crate::SettingValue;
use crate::Storing;
use crate::log::Level;

/// The octets of an address and a length, and of what else stands in lists.
const TEXT: usize = 8;
const OPTION: usize = 12;
const PAIR: usize = 2 * TEXT;
const PARAMETER: usize = TEXT + OPTION;
const SETTING: usize = 24;
const REQUEST: usize = 9 * TEXT + OPTION;

/// What every answer is: the address of words of 32 bits.
type Answer = *const usize;

// --- The functions ---------------------------------------------------------------------------------

/// # Safety
///
/// As for all of these: the host calls it, with what the contract says.
pub unsafe fn configure<P: Policy>(settings: *const u8, count: usize) -> Answer {
    // SAFETY: the argument is a list of settings.
    let settings = unsafe { elements(Place(settings), count, SETTING, Place::setting) };
    let (wants, prepared) = match Exported::<P>::configure(settings) {
        Ok(configured) => configured,
        Err(problem) => return failed(problem),
    };
    let lists = [
        wants.fields,
        wants.cookies,
        wants.claims,
        wants.response_fields,
        wants.response_values,
        wants.document_values,
    ];
    let mut answer = vec![0, wants.inputs.bits().into()];
    for list in lists {
        answer.extend(texts(list));
    }
    answer.extend(leaked(prepared));
    answer.leak().as_ptr()
}

/// # Safety
///
/// See [`configure`].
pub unsafe fn key<P: Key>(arguments: *const u8) -> Answer {
    let arguments = Place(arguments);
    // SAFETY: the arguments are `prepared` and a request.
    let (prepared, request) = unsafe { (arguments.slice(0), arguments.at(TEXT).request()) };
    match Exported::<P>::key(prepared, &request) {
        Ok(KeyDecision::Parts(parts)) => {
            let mut words = Vec::with_capacity(4 * parts.len());
            let count = parts.len();
            for part in parts {
                words.extend(leaked(part.name.into_bytes()));
                words.extend(leaked(part.value.into_bytes()));
            }
            answer([0, 0, words.leak().as_ptr() as usize, count])
        }
        Ok(KeyDecision::Bypass(reason)) => {
            let [start, length] = leaked(reason.into_bytes());
            answer([0, 1, start, length])
        }
        Err(problem) => failed(problem),
    }
}

/// # Safety
///
/// See [`configure`].
pub unsafe fn storing<P: Storing>(arguments: *const u8) -> Answer {
    let arguments = Place(arguments);
    // SAFETY: the arguments are `prepared`, a request and a response.
    let (prepared, request) = unsafe { (arguments.slice(0), arguments.at(TEXT).request()) };
    // SAFETY: as above.
    let response = unsafe { arguments.at(TEXT + REQUEST).response() };
    match Exported::<P>::storing(prepared, &request, &response) {
        Ok(decision) => {
            let [start, count] = texts(decision.tags);
            let (has_bound, bound) = match decision.max_age {
                Some(seconds) => (1, seconds as usize),
                None => (0, 0),
            };
            answer([0, decision.store.into(), has_bound, bound, start, count])
        }
        Err(problem) => failed(problem),
    }
}

/// # Safety
///
/// See [`configure`].
pub unsafe fn invalidation<P: Invalidation>(arguments: *const u8) -> Answer {
    let arguments = Place(arguments);
    let cause = arguments.at(TEXT + 4);
    // SAFETY: the arguments are `prepared` and a cause.
    let (prepared, is_change) = unsafe { (arguments.slice(0), arguments.octet(TEXT) == 1) };
    let invalidated = if is_change {
        // SAFETY: this is the case.
        let change = unsafe { cause.change() };
        Exported::<P>::invalidation(prepared, Cause::Change(&change))
    } else {
        // SAFETY: this is the case.
        let (request, response) = unsafe { (cause.request(), cause.at(REQUEST).response()) };
        Exported::<P>::invalidation(prepared, Cause::Write(&request, &response))
    };
    match invalidated {
        Ok(invalidated) => {
            let count = invalidated.len();
            let mut words = Vec::with_capacity(4 * count);
            for Invalidated { scope, soft } in invalidated {
                let (which, text) = match scope {
                    Scope::Tag(text) => (0, text),
                    Scope::Path(text) => (1, text),
                    Scope::Pattern(text) => (2, text),
                };
                let [start, length] = leaked(text.into_bytes());
                words.extend([which, start, length, soft.into()]);
            }
            answer([0, words.leak().as_ptr() as usize, count])
        }
        Err(problem) => failed(problem),
    }
}

/// Writes a line to the gateway's log.
pub(crate) fn write_log(level: Level, message: &str) {
    #[link(wasm_import_module = "larder:policy/log@0.1.0")]
    unsafe extern "C" {
        #[link_name = "write"]
        fn write(level: i32, start: *const u8, length: usize);
    }
    // SAFETY: the host reads the message before it returns.
    unsafe { write(level as i32, message.as_ptr(), message.len()) };
}

/// Where the host puts what it passes.
///
/// # Safety
///
/// The host gives a block back only with its own size and alignment.
#[unsafe(export_name = "cabi_realloc")]
unsafe extern "C" fn cabi_realloc(
    old: *mut u8,
    old_size: usize,
    align: usize,
    new_size: usize,
) -> *mut u8 {
    if new_size == 0 {
        // What is empty lies anywhere.
        return align as *mut u8;
    }
    // SAFETY: the host's alignments are powers of two, and its sizes below 2 GiB.
    let layout = unsafe { Layout::from_size_align_unchecked(new_size, align) };
    let block = if old_size == 0 {
        // SAFETY: the size is not 0.
        unsafe { alloc::alloc(layout) }
    } else {
        // SAFETY: as above, and the host's to promise.
        unsafe {
            let old_layout = Layout::from_size_align_unchecked(old_size, align);
            alloc::realloc(old, old_layout, new_size)
        }
    };
    if block.is_null() {
        alloc::handle_alloc_error(layout);
    }
    block
}

// --- Answers ---------------------------------------------------------------------------------------

fn answer<const N: usize>(words: [usize; N]) -> Answer {
    Vec::from(words).leak().as_ptr()
}

fn failed(problem: String) -> Answer {
    let [start, length] = leaked(problem.into_bytes());
    answer([1, start, length])
}

fn leaked(octets: Vec<u8>) -> [usize; 2] {
    let octets = octets.leak();
    [octets.as_ptr() as usize, octets.len()]
}

fn texts(texts: Vec<String>) -> [usize; 2] {
    let count = texts.len();
    let mut words = Vec::with_capacity(2 * count);
    for text in texts {
        words.extend(leaked(text.into_bytes()));
    }
    [words.leak().as_ptr() as usize, count]
}

// --- Arguments -------------------------------------------------------------------------------------

/// An address at which the host has put a value. Nothing that is read from it is freed.
///
/// The methods are safe to call where a value of that type lies, and each only once, as they take it.
#[derive(Clone, Copy)]
struct Place(*const u8);

impl Place {
    fn at(self, offset: usize) -> Self {
        Self(self.0.wrapping_add(offset))
    }

    unsafe fn octet(self, offset: usize) -> u8 {
        // SAFETY: the caller knows what lies there.
        unsafe { self.at(offset).0.read() }
    }

    unsafe fn value<T>(self, offset: usize) -> T {
        // SAFETY: the caller knows what lies there, and the host aligned it.
        unsafe { self.at(offset).0.cast::<T>().read() }
    }

    /// Octets, to be looked at.
    unsafe fn slice(self, offset: usize) -> &'static [u8] {
        // SAFETY: an address and a length lie there. Of nothing the address may be anything.
        let (start, length) = unsafe { (self.value::<*const u8>(offset), self.value(offset + 4)) };
        if length == 0 {
            return &[];
        }
        // SAFETY: the host wrote so many octets for this call.
        unsafe { slice::from_raw_parts(start, length) }
    }

    /// Octets, to be kept.
    #[expect(clippy::same_length_and_capacity, reason = "blocks are as long as what is passed")]
    unsafe fn octets(self) -> Vec<u8> {
        // SAFETY: see `slice`.
        let (start, length) = unsafe { (self.value::<*mut u8>(0), self.value(4)) };
        if length == 0 {
            return Vec::new();
        }
        // SAFETY: `cabi_realloc` made the block, and the host filled it.
        unsafe { Vec::from_raw_parts(start, length, length) }
    }

    unsafe fn text(self) -> String {
        // SAFETY: the host passes strings in UTF-8.
        unsafe { String::from_utf8_unchecked(self.octets()) }
    }

    unsafe fn list<T>(self, size: usize, read: unsafe fn(Self) -> T) -> Vec<T> {
        // SAFETY: a list of such elements lies there.
        unsafe { elements(Self(self.value(0)), self.value(4), size, read) }
    }

    unsafe fn optional<T>(self, read: unsafe fn(Self) -> T) -> Option<T> {
        // SAFETY: an option of that type lies there, which is aligned to four octets.
        unsafe { (self.octet(0) == 1).then(|| read(self.at(4))) }
    }

    unsafe fn optional_text(self) -> Option<String> {
        // SAFETY: this is what lies there.
        unsafe { self.optional(Self::text) }
    }

    unsafe fn texts(self) -> Vec<String> {
        // SAFETY: this is what lies there.
        unsafe { self.list(TEXT, Self::text) }
    }

    unsafe fn values(self) -> Vec<Vec<String>> {
        // SAFETY: this is what lies there.
        unsafe { self.list(TEXT, Self::texts) }
    }

    unsafe fn optional_texts(self) -> Vec<Option<String>> {
        // SAFETY: this is what lies there.
        unsafe { self.list(OPTION, Self::optional_text) }
    }

    unsafe fn pair(self) -> Pair {
        // SAFETY: this is what lies there.
        unsafe { Pair { name: self.text(), value: self.at(TEXT).text() } }
    }

    unsafe fn parameter(self) -> Parameter {
        // SAFETY: this is what lies there.
        unsafe { Parameter { name: self.text(), value: self.at(TEXT).optional_text() } }
    }

    unsafe fn setting(self) -> Setting {
        let value = self.at(16);
        // SAFETY: a name lies there, which case the value is, and at a multiple of eight the value.
        unsafe {
            Setting {
                name: self.text(),
                value: match self.octet(8) {
                    0 => SettingValue::Boolean(value.octet(0) != 0),
                    1 => SettingValue::Integer(value.value(0)),
                    2 => SettingValue::Number(value.value(0)),
                    3 => SettingValue::Text(value.text()),
                    _ => SettingValue::Texts(value.texts()),
                },
            }
        }
    }

    unsafe fn request(self) -> ManuallyDrop<Request> {
        // SAFETY: this is what lies there.
        ManuallyDrop::new(unsafe {
            Request {
                method: self.text(),
                scheme: self.at(TEXT).text(),
                authority: self.at(2 * TEXT).text(),
                path: self.at(3 * TEXT).text(),
                captures: self.at(4 * TEXT).list(PAIR, Self::pair),
                query: self.at(5 * TEXT).list(PARAMETER, Self::parameter),
                fields: self.at(6 * TEXT).optional_texts(),
                cookies: self.at(7 * TEXT).optional_texts(),
                claims: self.at(8 * TEXT).optional_texts(),
                content: self.at(9 * TEXT).optional(Self::octets),
            }
        })
    }

    unsafe fn response(self) -> ManuallyDrop<Response> {
        // SAFETY: this is what lies there.
        ManuallyDrop::new(unsafe {
            Response {
                status: self.value(0),
                fields: self.at(4).optional_texts(),
                values: self.at(4 + TEXT).optional(Self::values),
            }
        })
    }

    unsafe fn change(self) -> ManuallyDrop<Change> {
        // SAFETY: this is what lies there.
        ManuallyDrop::new(unsafe {
            Change {
                mongodb: self.text(),
                database: self.at(TEXT).text(),
                collection: self.at(2 * TEXT).text(),
                operation: match self.octet(3 * TEXT) {
                    0 => Operation::Insert,
                    1 => Operation::Update,
                    2 => Operation::Replace,
                    3 => Operation::Delete,
                    _ => Operation::Drop,
                },
                id: self.at(3 * TEXT + 4).text(),
                after: self.at(4 * TEXT + 4).optional(Self::values),
                before: self.at(4 * TEXT + 4 + OPTION).optional(Self::values),
            }
        })
    }
}

/// # Safety
///
/// So many elements of that size lie one after the other.
unsafe fn elements<T>(
    first: Place,
    count: usize,
    size: usize,
    read: unsafe fn(Place) -> T,
) -> Vec<T> {
    let mut values = Vec::with_capacity(count);
    for index in 0..count {
        // SAFETY: each lies where the one before ends.
        values.push(unsafe { read(first.at(index * size)) });
    }
    values
}

//! The memory allocator of a plugin.
//!
//! Every call gets a fresh instance, so most plugins live for microseconds and what counts is the
//! first allocation. Rust's own allocator for WebAssembly begins by growing the memory, which costs
//! the host two system calls for each instance; this one begins with what stack and data leave of the
//! initial memory, and grows only when that is used up.
//!
//! Nothing is given back, as the instance is gone after the call with all its memory. So the compiler
//! finds that dropping a value does nothing, and a plugin is a tenth smaller for the code that is not
//! there. A block that grows stays where it is if nothing was allocated after it.

#![expect(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::Layout;
use std::ptr;

/// Memory to allocate from: the rest of one region.
pub(crate) struct Heap {
    next: *mut u8,
    /// How many octets follow `next`.
    left: usize,
}

/// Octets to allocate from, which nothing else uses: where they begin, and how many.
pub(crate) type Region = (*mut u8, usize);

impl Heap {
    pub(crate) const fn new() -> Self {
        Self { next: ptr::null_mut(), left: 0 }
    }

    /// Whether nothing was allocated yet.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn is_empty(&self) -> bool {
        self.next.is_null()
    }

    /// Null when there is no memory left. `grow` is asked for a region of at least so many octets.
    pub(crate) fn allocate(
        &mut self,
        layout: Layout,
        grow: impl FnOnce(usize) -> Option<Region>,
    ) -> *mut u8 {
        if let Some(block) = self.take(layout) {
            return block;
        }
        let Some(region) = layout.size().checked_add(layout.align()).and_then(grow) else {
            return ptr::null_mut();
        };
        self.add(region);
        self.take(layout).unwrap_or(ptr::null_mut())
    }

    /// # Safety
    ///
    /// `block` came from `allocate` or `reallocate` of this heap with `layout`, and is not used again
    /// unless the result is null.
    pub(crate) unsafe fn reallocate(
        &mut self,
        block: *mut u8,
        layout: Layout,
        new_size: usize,
        grow: impl FnOnce(usize) -> Option<Region>,
    ) -> *mut u8 {
        // The block given out last, which is often the one that grows, has nothing behind it.
        let is_last = block.wrapping_add(layout.size()) == self.next;
        if is_last && new_size - layout.size().min(new_size) <= self.left {
            self.next = block.wrapping_add(new_size);
            self.left = self.left + layout.size() - new_size;
            return block;
        }
        if new_size <= layout.size() {
            return block;
        }
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let moved = self.allocate(new, grow);
        if !moved.is_null() {
            // SAFETY: two different blocks, each at least as large as the smaller of the layouts.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size()) };
        }
        moved
    }

    fn take(&mut self, layout: Layout) -> Option<*mut u8> {
        let padding = self.next.align_offset(layout.align());
        self.left = self.left.checked_sub(padding)?.checked_sub(layout.size())?;
        let block = self.next.wrapping_add(padding);
        self.next = block.wrapping_add(layout.size());
        Some(block)
    }

    /// Takes a region into use. What is left of the one before is lost if that does not end there.
    fn add(&mut self, (start, size): Region) {
        if start == self.next.wrapping_add(self.left) {
            self.left += size;
        } else {
            (self.next, self.left) = (start, size);
        }
    }
}

#[cfg(target_arch = "wasm32")]
mod global {
    use super::{Heap, Region};
    use std::alloc::{GlobalAlloc, Layout};
    use std::cell::UnsafeCell;
    use std::ptr;

    const PAGE: usize = 64 * 1024;
    /// At least so many pages at a time: growing is what costs.
    const GROWTH: usize = 4;

    #[global_allocator]
    static GLOBAL: Global = Global(UnsafeCell::new(Heap::new()));

    unsafe extern "C" {
        /// What the linker puts behind stack and data.
        static __heap_base: u8;
    }

    struct Global(UnsafeCell<Heap>);

    // SAFETY: a plugin has one thread.
    unsafe impl Sync for Global {}

    /// What is left of the initial memory first, and then more from the host.
    fn region(size: usize, is_first: bool) -> Option<Region> {
        if is_first {
            let start = (&raw const __heap_base).cast_mut();
            let left = core::arch::wasm32::memory_size(0) * PAGE - start.addr();
            if size <= left {
                return Some((start, left));
            }
        }
        let pages = size.div_ceil(PAGE).max(GROWTH);
        let before = core::arch::wasm32::memory_grow(0, pages);
        (before != usize::MAX)
            .then(|| (ptr::with_exposed_provenance_mut(before * PAGE), pages * PAGE))
    }

    // SAFETY: `Heap` gives out blocks that do not overlap, are large enough and aligned. It is borrowed
    // by one call at a time: there is one thread, and nothing in here allocates.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            let heap = unsafe { &mut *self.0.get() };
            let is_first = heap.is_empty();
            heap.allocate(layout, |size| region(size, is_first))
        }

        unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: see above; `GlobalAlloc` promises that the block is ours.
            unsafe {
                (*self.0.get()).reallocate(block, layout, new_size, |size| region(size, false))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const TOTAL: usize = 16 << 20;

    /// Memory that is handed out in regions of at least 4 KiB, as a plugin's memory grows.
    struct Memory {
        octets: Vec<u128>,
        used: Cell<usize>,
        /// Left out between two regions, so that they are not neighbours.
        gap: usize,
    }

    impl Memory {
        fn new(gap: usize) -> Self {
            Self { octets: vec![0; TOTAL / 16], used: Cell::new(0), gap }
        }

        fn grow(&self, size: usize) -> Option<Region> {
            let size = size.max(4096).next_multiple_of(16);
            let start = self.used.get() + self.gap;
            (start + size <= TOTAL).then(|| {
                self.used.set(start + size);
                (self.octets.as_ptr().cast_mut().cast::<u8>().wrapping_add(start), size)
            })
        }
    }

    struct Held {
        at: *mut u8,
        layout: Layout,
        mark: u8,
    }

    impl Held {
        fn fill(&self) {
            // SAFETY: the block is held, and as large as its layout.
            unsafe { ptr::write_bytes(self.at, self.mark, self.layout.size()) };
        }

        fn check(&self, size: usize) {
            // SAFETY: as above; `size` is at most the layout's.
            let octets = unsafe { std::slice::from_raw_parts(self.at, size) };
            assert!(octets.iter().all(|octet| *octet == self.mark), "overwritten");
        }
    }

    /// A sequence of numbers that is the same in every run.
    fn numbers() -> impl FnMut(usize) -> usize {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % below
        }
    }

    #[test]
    fn blocks_keep_their_contents_and_alignment() {
        for gap in [0, 32] {
            let memory = Memory::new(gap);
            let mut heap = Heap::new();
            let mut held: Vec<Held> = Vec::new();
            let mut random = numbers();
            for step in 0..10_000_u32 {
                let mark = u8::try_from(step % 251).unwrap();
                match random(4) {
                    0 => {
                        let layout =
                            Layout::from_size_align(1 + random(900), 1 << random(8)).unwrap();
                        let at = heap.allocate(layout, |size| memory.grow(size));
                        assert!(!at.is_null());
                        assert_eq!(at.align_offset(layout.align()), 0);
                        held.push(Held { at, layout, mark });
                        held.last().unwrap().fill();
                    }
                    1 if !held.is_empty() => {
                        let block = held.swap_remove(random(held.len()));
                        block.check(block.layout.size());
                    }
                    how @ 2.. if !held.is_empty() => {
                        let last = held.len() - 1;
                        let index = if how == 2 { last } else { random(held.len()) };
                        let block = &mut held[index];
                        let size = 1 + random(900);
                        // SAFETY: allocated above; its old address is forgotten.
                        block.at = unsafe {
                            heap.reallocate(block.at, block.layout, size, |size| memory.grow(size))
                        };
                        assert!(!block.at.is_null());
                        block.check(size.min(block.layout.size()));
                        block.layout = Layout::from_size_align(size, block.layout.align()).unwrap();
                        assert_eq!(block.at.align_offset(block.layout.align()), 0);
                        block.mark = mark;
                        block.fill();
                    }
                    _ => {}
                }
            }
            for block in &held {
                block.check(block.layout.size());
            }
        }
    }

    #[test]
    fn the_last_block_grows_where_it_is() {
        let memory = Memory::new(0);
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(16, 1).unwrap();
        let at = heap.allocate(layout, |size| memory.grow(size));
        // SAFETY: allocated above.
        let grown = unsafe { heap.reallocate(at, layout, 1000, |_| None) };
        assert_eq!(at, grown);
    }

    #[test]
    fn a_region_goes_on_where_the_one_before_ends() {
        for (gap, has_room) in [(0, true), (32, false)] {
            let memory = Memory::new(gap);
            let mut heap = Heap::new();
            let small = Layout::from_size_align(16, 1).unwrap();
            heap.allocate(small, |size| memory.grow(size));
            let large = Layout::from_size_align(4096, 1).unwrap();
            assert!(!heap.allocate(large, |size| memory.grow(size)).is_null());
            let rest = Layout::from_size_align(4064, 1).unwrap();
            assert_eq!(!heap.allocate(rest, |_| None).is_null(), has_room);
        }
    }

    #[test]
    fn a_block_that_shrinks_stays_where_it_is() {
        let memory = Memory::new(0);
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(100, 1).unwrap();
        let [first, last] = [0; 2].map(|_| heap.allocate(layout, |size| memory.grow(size)));
        for block in [first, last] {
            // SAFETY: allocated above.
            assert_eq!(block, unsafe { heap.reallocate(block, layout, 10, |_| None) });
        }
        assert_eq!(heap.allocate(layout, |_| None), last.wrapping_add(10));
    }

    #[test]
    fn no_memory_is_null() {
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        assert!(heap.allocate(layout, |_| None).is_null());
        let huge = Layout::from_size_align(usize::MAX / 4, 8).unwrap();
        assert!(heap.allocate(huge, |_| None).is_null());
    }
}

//! The memory allocator of a plugin.
//!
//! Every call gets a fresh instance, so most plugins live for microseconds and what counts is the
//! first allocation. Rust's own allocator for WebAssembly begins by growing the memory, which costs
//! the host two system calls for each instance; this one begins with an arena inside the initial
//! memory and grows only when that is used up.
//!
//! A block is a power of two of at least 16 octets. Freed blocks wait in a list for each size and
//! are given out again; blocks are never split or joined.

#![expect(unsafe_code, reason = "an allocator hands out raw memory")]

use std::alloc::Layout;
use std::ptr::{self, NonNull};

/// The smallest block, and the alignment of every block.
const SMALLEST: usize = 16;

/// One list for each power of two from 16 octets on; nothing beyond 2 GiB is given out.
const SIZES: usize = 28;

/// Memory to allocate from: the rest of one region, and the blocks that came back.
pub(crate) struct Heap {
    next: *mut u8,
    /// How many octets follow `next`. Both are multiples of 16.
    left: usize,
    free: [Option<NonNull<Free>>; SIZES],
}

/// What a block holds while it waits in its list.
struct Free {
    next: Option<NonNull<Free>>,
}

/// Octets to allocate from, which nothing else uses: where they begin, and how many.
pub(crate) type Region = (*mut u8, usize);

impl Heap {
    pub(crate) const fn new() -> Self {
        Self { next: ptr::null_mut(), left: 0, free: [None; SIZES] }
    }

    /// Null when there is no memory left. `grow` is asked for a region of at least so many octets.
    pub(crate) fn allocate(
        &mut self,
        layout: Layout,
        grow: impl FnOnce(usize) -> Option<Region>,
    ) -> *mut u8 {
        let Some((index, size)) = block_for(layout) else { return ptr::null_mut() };
        if let Some(block) = self.take_free(index, layout.align()) {
            return block;
        }
        if self.left < self.padding(layout.align()).saturating_add(size) {
            let Some(region) = grow(size.saturating_add(layout.align())) else {
                return ptr::null_mut();
            };
            self.add(region);
        }
        let padding = self.padding(layout.align());
        if self.left < padding.saturating_add(size) {
            return ptr::null_mut();
        }
        let block = self.next.wrapping_add(padding);
        self.next = block.wrapping_add(size);
        self.left -= padding + size;
        block
    }

    /// # Safety
    ///
    /// `block` came from `allocate` or `reallocate` of this heap with `layout`, and is not used again.
    pub(crate) unsafe fn free(&mut self, block: *mut u8, layout: Layout) {
        // What had no block size was never allocated.
        let Some((index, _)) = block_for(layout) else { return };
        // SAFETY: the caller gives up the block, and `block_for` made it as large as the list says.
        unsafe { self.put_free(index, block) };
    }

    /// # Safety
    ///
    /// As for [`Heap::free`]; if the result is null, `block` stays as it was.
    pub(crate) unsafe fn reallocate(
        &mut self,
        block: *mut u8,
        layout: Layout,
        new_size: usize,
        grow: impl FnOnce(usize) -> Option<Region>,
    ) -> *mut u8 {
        let Ok(new) = Layout::from_size_align(new_size, layout.align()) else {
            return ptr::null_mut();
        };
        let (Some((_, old_size)), Some((_, size))) = (block_for(layout), block_for(new)) else {
            return ptr::null_mut();
        };
        if size == old_size {
            return block;
        }
        // The block given out last, which is often the one that grows, has nothing behind it.
        let is_last = block.wrapping_add(old_size) == self.next;
        if is_last && size <= self.left + old_size {
            self.next = block.wrapping_add(size);
            self.left = self.left + old_size - size;
            return block;
        }
        let moved = self.allocate(new, grow);
        if !moved.is_null() {
            // SAFETY: two different blocks, each at least as large as the smaller of the layouts.
            unsafe { ptr::copy_nonoverlapping(block, moved, layout.size().min(new_size)) };
            // SAFETY: the caller gave the block up for `moved`.
            unsafe { self.free(block, layout) };
        }
        moved
    }

    /// Octets to skip so that a block is aligned. They are lost, and there are none up to 16.
    fn padding(&self, align: usize) -> usize {
        self.next.align_offset(align.max(SMALLEST))
    }

    /// Takes a region into use. What is left of the one before becomes free blocks.
    fn add(&mut self, (start, size): Region) {
        if start == self.next.wrapping_add(self.left) {
            self.left += size & !(SMALLEST - 1);
            return;
        }
        while let Some(log2) = self.left.checked_ilog2().filter(|_| self.left >= SMALLEST) {
            let block = self.next;
            self.next = block.wrapping_add(1 << log2);
            self.left -= 1 << log2;
            // SAFETY: these octets belong to the region and were never given out.
            unsafe { self.put_free(log2 as usize - SMALLEST.ilog2() as usize, block) };
        }
        let padding = start.align_offset(SMALLEST).min(size);
        self.next = start.wrapping_add(padding);
        self.left = (size - padding) & !(SMALLEST - 1);
    }

    /// Blocks are 16-aligned. What asks for more looks through the list for one that happens to fit.
    fn take_free(&mut self, index: usize, align: usize) -> Option<*mut u8> {
        let mut link = self.free.get_mut(index)?;
        loop {
            let block = (*link)?;
            // SAFETY: blocks in a list are nobody else's, and hold a `Free`.
            let next = unsafe { &mut (*block.as_ptr()).next };
            if block.as_ptr().cast::<u8>().align_offset(align) == 0 {
                *link = next.take();
                return Some(block.as_ptr().cast());
            }
            link = next;
        }
    }

    /// # Safety
    ///
    /// `block` is 16-aligned, nobody uses it, and it is as large as the blocks of this list.
    unsafe fn put_free(&mut self, index: usize, block: *mut u8) {
        let Some(list) = self.free.get_mut(index) else { return };
        #[expect(clippy::cast_ptr_alignment, reason = "every block is 16-aligned")]
        let Some(free) = NonNull::new(block.cast::<Free>()) else { return };
        // SAFETY: the block is at least 16 octets, and the caller's to give away.
        unsafe { free.write(Free { next: list.take() }) };
        *list = Some(free);
    }
}

/// Which list a layout belongs to, and the size of its blocks.
fn block_for(layout: Layout) -> Option<(usize, usize)> {
    let size = layout.size().max(SMALLEST).checked_next_power_of_two()?;
    let index = (size.ilog2() - SMALLEST.ilog2()) as usize;
    (index < SIZES).then_some((index, size))
}

#[cfg(target_arch = "wasm32")]
mod global {
    use super::{Heap, Region};
    use std::alloc::{GlobalAlloc, Layout};
    use std::cell::UnsafeCell;

    /// As much as fits with the stack and the data into three or four pages of 64 KiB.
    const ARENA: usize = 96 * 1024;
    const PAGE: usize = 64 * 1024;
    /// At least so many pages at a time: growing is what costs.
    const GROWTH: usize = 4;

    #[global_allocator]
    static GLOBAL: Global = Global(UnsafeCell::new(State { heap: Heap::new(), begun: false }));
    static FIRST: Arena = Arena(UnsafeCell::new([0; ARENA]));

    #[repr(align(16))]
    struct Arena(UnsafeCell<[u8; ARENA]>);

    struct State {
        heap: Heap,
        begun: bool,
    }

    struct Global(UnsafeCell<State>);

    // SAFETY: a plugin has one thread.
    unsafe impl Sync for Arena {}
    // SAFETY: a plugin has one thread.
    unsafe impl Sync for Global {}

    impl State {
        /// The arena first, and then more memory from the host.
        fn region(begun: &mut bool, size: usize) -> Option<Region> {
            if !*begun {
                *begun = true;
                if size <= ARENA {
                    return Some((FIRST.0.get().cast(), ARENA));
                }
            }
            let pages = size.div_ceil(PAGE).max(GROWTH);
            let before = core::arch::wasm32::memory_grow(0, pages);
            (before != usize::MAX).then(|| ((before * PAGE) as *mut u8, pages * PAGE))
        }
    }

    // SAFETY: `Heap` gives out blocks that do not overlap, are large enough and aligned. The state is
    // borrowed by one call at a time: there is one thread, and nothing in here allocates.
    unsafe impl GlobalAlloc for Global {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: see above.
            let State { heap, begun } = unsafe { &mut *self.0.get() };
            heap.allocate(layout, |size| State::region(begun, size))
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            // SAFETY: see above; `GlobalAlloc` promises that the block is ours.
            unsafe { (*self.0.get()).heap.free(block, layout) };
        }

        unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
            // SAFETY: see above.
            let State { heap, begun } = unsafe { &mut *self.0.get() };
            // SAFETY: `GlobalAlloc` promises that the block is ours.
            unsafe { heap.reallocate(block, layout, new_size, |size| State::region(begun, size)) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const TOTAL: usize = 1 << 20;

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
            for step in 0..20_000_u32 {
                let mark = u8::try_from(step % 251).unwrap();
                match random(3) {
                    0 if held.len() < 60 => {
                        let layout =
                            Layout::from_size_align(1 + random(900), 1 << random(8)).unwrap();
                        let at = heap.allocate(layout, |size| memory.grow(size));
                        assert!(!at.is_null(), "freed blocks are used again");
                        assert_eq!(at.align_offset(layout.align()), 0);
                        held.push(Held { at, layout, mark });
                        held.last().unwrap().fill();
                    }
                    1 if !held.is_empty() => {
                        let block = held.swap_remove(random(held.len()));
                        block.check(block.layout.size());
                        // SAFETY: allocated above, and forgotten here.
                        unsafe { heap.free(block.at, block.layout) };
                    }
                    2 if !held.is_empty() => {
                        let index = random(held.len());
                        let block = &mut held[index];
                        let size = 1 + random(900);
                        // SAFETY: allocated above; its old address is forgotten.
                        block.at = unsafe {
                            heap.reallocate(block.at, block.layout, size, |size| memory.grow(size))
                        };
                        assert!(!block.at.is_null(), "freed blocks are used again");
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
    fn a_freed_block_is_the_next_of_its_size() {
        let memory = Memory::new(0);
        let mut heap = Heap::new();
        let layout = Layout::from_size_align(100, 8).unwrap();
        let at = heap.allocate(layout, |size| memory.grow(size));
        // SAFETY: allocated above, and not used again.
        unsafe { heap.free(at, layout) };
        assert_eq!(at, heap.allocate(layout, |_| None));
    }

    #[test]
    fn what_is_left_of_a_region_is_not_lost() {
        let memory = Memory::new(32);
        let mut heap = Heap::new();
        let small = Layout::from_size_align(16, 1).unwrap();
        let large = Layout::from_size_align(8192, 1).unwrap();
        let at = heap.allocate(small, |size| memory.grow(size));
        heap.allocate(large, |size| memory.grow(size));
        let of_first_region = Layout::from_size_align(2048, 1).unwrap();
        let again = heap.allocate(of_first_region, |_| None);
        assert!((at..at.wrapping_add(4096)).contains(&again));
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

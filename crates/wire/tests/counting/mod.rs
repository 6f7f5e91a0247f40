//! An allocator that counts what the thread that asks allocates, for tests that promise numbers.
#![allow(
    unsafe_code,
    dead_code,
    unreachable_pub,
    reason = "a counting allocator can only be written as an unsafe impl of GlobalAlloc; each test asks for its own numbers"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static HELD: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has allocated.
pub fn allocations() -> u64 {
    ALLOCATIONS.get()
}

/// Bytes that this thread has allocated and not given back; negative when it gave back what others allocated.
pub fn held() -> i64 {
    HELD.get()
}

// SAFETY: every call is handed to the system allocator as it came, so its contract is that of `System`. The counters are
// constant-initialised thread-locals without destructor, so that counting neither allocates nor touches freed storage.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        HELD.set(HELD.get() + layout.size() as i64);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        HELD.set(HELD.get() - layout.size() as i64);
        // SAFETY: the pointer came from `alloc` above, so from the system allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

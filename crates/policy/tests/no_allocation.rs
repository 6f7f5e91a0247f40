//! Judging a name allocates nothing.
#![allow(clippy::unwrap_used, reason = "inputs are constants")]
#![allow(
    unsafe_code,
    reason = "a counting allocator can only be written as an unsafe impl of GlobalAlloc"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use portcullis_policy as policy;

use policy::names::{NameFilterBuilder, NameVerdict, Pattern, Source};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every call is handed to the system allocator as it came, so its contract is that of `System`. The counter is a
// constant-initialised thread-local without destructor, so that counting neither allocates nor touches freed storage.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the pointer came from `alloc` above, so from the system allocator, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn judging_allocates_nothing() {
    let mut builder = NameFilterBuilder::new(3);
    let source = builder.source(Source::List("list".to_owned()));
    for index in 0..1_000 {
        let text = format!(".blocked{index}.example");
        builder
            .block(&Pattern::parse(&text).unwrap(), source)
            .unwrap();
        let text = format!("good.blocked{index}.example");
        builder
            .allow(&Pattern::parse(&text).unwrap(), source)
            .unwrap();
    }
    let filter = builder.build();
    let long = ["a"; 400].join(".");
    let names = [
        "blocked7.example",
        "WWW.Blocked9.Example.",
        "good.blocked7.example",
        "a.b.c.d.e.f.other.example",
        "",
        &long,
    ];
    let before = ALLOCATIONS.get();
    let blocked = names
        .iter()
        .filter(|name| matches!(filter.judge(name.as_bytes()), NameVerdict::Blocked(_)))
        .count();
    assert_eq!(ALLOCATIONS.get() - before, 0);
    assert_eq!(blocked, 2);
}

use std::vec::Vec;

use super::*;

const PAGE: usize = 4096;

fn scanner() -> Scanner {
    Scanner::new(PAGE).expect("these tests are for Linux 6.7 and later, with pages of 4 KiB")
}

/// The pages, by number, that were written.
fn written(scanner: &Scanner, start: NonNull<u8>, pages: usize) -> Vec<usize> {
    let base = start.addr().get();
    let mut found = Vec::new();
    let mut note = |run: Range<usize>| {
        found.extend(((run.start - base) / PAGE)..((run.end - base) / PAGE));
        ControlFlow::Continue(())
    };
    scanner.written(base..base + pages * PAGE, true, &mut note).unwrap();
    found
}

fn read(start: NonNull<u8>, page: usize) -> u8 {
    // SAFETY: the tests read only pages that they mapped.
    unsafe { start.add(page * PAGE).read_volatile() }
}

fn write(start: NonNull<u8>, page: usize) {
    // SAFETY: the tests write only pages that they mapped.
    unsafe { start.add(page * PAGE).write_volatile(7) };
}

#[test]
#[cfg_attr(miri, ignore = "no such system calls there")]
fn written_pages_are_found_however_many_and_read_ones_are_not() {
    let scanner = scanner();
    let pages = 8 * REGIONS;
    let start = reserve_open(pages * PAGE).unwrap();
    assert_eq!(written(&scanner, start, pages), []);
    // Reading maps the page of zeros.
    (0..pages).for_each(|page| assert_eq!(read(start, page), 0));
    assert_eq!(written(&scanner, start, pages), []);
    // Every other page, and so more runs than one call returns.
    let odd: Vec<_> = (0..pages).filter(|page| page % 2 == 1).collect();
    odd.iter().for_each(|page| write(start, *page));
    assert_eq!(written(&scanner, start, pages), odd);
    (0..pages).for_each(|page| write(start, page));
    assert_eq!(written(&scanner, start, pages), (0..pages).collect::<Vec<_>>());
    // SAFETY: nothing refers to the pages.
    unsafe { empty(start.add(PAGE), (pages - 1) * PAGE) }.unwrap();
    assert_eq!(written(&scanner, start, pages), [0]);
    // SAFETY: nothing refers to the pages, and they are not used again.
    unsafe { unview(start, pages * PAGE) };
}

#[test]
#[cfg_attr(miri, ignore = "no such system calls there")]
fn of_an_image_only_the_pages_written_are_found_and_the_file_stays() {
    let scanner = scanner();
    let bytes: Vec<u8> = (0..8 * PAGE).map(|at| (at / PAGE) as u8 + 1).collect();
    let file = sealed_file(&bytes).unwrap();
    let (one, other) = (reserve_open(8 * PAGE).unwrap(), reserve_open(8 * PAGE).unwrap());
    for start in [one, other] {
        // SAFETY: nothing refers to the pages.
        unsafe { map_image(start, 8 * PAGE, &file) }.unwrap();
        (0..8).for_each(|page| assert_eq!(read(start, page), page as u8 + 1));
        assert_eq!(written(&scanner, start, 8), []);
    }
    write(one, 3);
    write(one, 5);
    assert_eq!(written(&scanner, one, 8), [3, 5]);
    assert_eq!((written(&scanner, other, 8), read(other, 3), read(other, 5)), (Vec::new(), 4, 6));
    // SAFETY: nothing refers to the pages.
    unsafe { empty(one, 8 * PAGE) }.unwrap();
    assert_eq!((read(one, 3), read(one, 5)), (4, 6));
    // SAFETY: nothing refers to the pages.
    unsafe { map_fresh(one, 8 * PAGE) }.unwrap();
    (0..8).for_each(|page| assert_eq!(read(one, page), 0));
    for start in [one, other] {
        // SAFETY: nothing refers to the pages, and they are not used again.
        unsafe { unview(start, 8 * PAGE) };
    }
}

unsafe extern "C" {
    fn fork() -> i32;
    fn _exit(status: i32) -> !;
    fn waitpid(child: i32, status: *mut i32, options: i32) -> i32;
}

#[test]
#[cfg_attr(miri, ignore = "no such system calls there")]
fn in_a_forked_child_it_refuses_since_it_would_see_the_parents_pages() {
    let scanner = scanner();
    let start = reserve_open(4 * PAGE).unwrap();
    let base = start.addr().get();
    // SAFETY: the child only touches its memory, makes system calls and ends.
    let child = unsafe { fork() };
    if child == 0 {
        write(start, 2);
        let mut found = false;
        let scanned = scanner.written(base..base + 4 * PAGE, false, &mut |_| {
            found = true;
            ControlFlow::Continue(())
        });
        // SAFETY: ends the child at once.
        unsafe { _exit(i32::from(scanned.is_ok() && !found)) };
    }
    let mut status = -1;
    // SAFETY: `status` lives through the call.
    assert_eq!(unsafe { waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child missed a page that it had written");
    write(start, 1);
    assert_eq!(written(&scanner, start, 4), [1]);
}

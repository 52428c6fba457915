//! What growing holds at its peak, and copies.

use crate::counting::bytes;
use crate::{Ours, PAGE, grower, stock};

/// Bytes held at the peak while a guest grows `n` times, by stock and here, and bytes copied by each.
fn growth(n: usize) -> [usize; 4] {
    let wasm = grower(n + 1);
    let (held, copied) = bytes(|| {
        let mut stock = stock(&wasm);
        assert_eq!(stock.run.call(&mut stock.store, n as i32).unwrap(), n as i32);
    });
    let ours = Ours::new((n + n / 8 + 4) * PAGE);
    let (_, copied_here) = bytes(|| {
        assert_eq!(ours.load(&wasm).call::<i32, i32>("run", n as i32).unwrap(), n as i32);
    });
    // What the crate was charged at its peak: the region, and the estimate while it was loaded.
    [held, ours.high_water(), copied, copied_here]
}

/// Both sides have the guest's pages at the end. The least that anybody can hold, then, is those: the last column.
pub fn table() {
    println!("growing from one page by one, n times: bytes held at the peak (all of the guest), and copied");
    println!(
        "{:>5} {:>12} {:>12} {:>8} {:>14} {:>14} {:>16}",
        "n", "stock", "here", "ratio", "stock copied", "here copied", "pages / stock"
    );
    let ratios = |n: usize, [held, here, ..]: [usize; 4]| {
        (here as f64 / held as f64, ((n + 1) * PAGE) as f64 / held as f64)
    };
    for n in [1usize, 3, 4, 16, 64, 127, 128, 255, 256] {
        let growth = growth(n);
        let (ratio, least) = ratios(n, growth);
        let [held, here, copied, copied_here] = growth;
        println!("{n:>5} {held:>12} {here:>12} {ratio:>8.2} {copied:>14} {copied_here:>14} {least:>16.2}");
    }
    let all = (1..=256).map(|n| ratios(n, growth(n)));
    let (sum, least) = all.fold((0.0, 0.0), |(sum, least), (a, b)| (sum + a, least + b));
    println!("mean of n from 1 to 256: ratio {:.2}, pages / stock {:.2}", sum / 256.0, least / 256.0);
}

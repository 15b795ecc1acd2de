//! UUIDs (RFC 9562).

/// The text of a UUID of this version with these bits; those of version and variant are put in.
#[must_use]
pub fn text(bits: u128, version: u8) -> String {
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | (u128::from(version & 0xf) << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

#[cfg(test)]
mod tests {
    #[test]
    fn version_and_variant_are_put_in() {
        assert_eq!(super::text(0, 4), "00000000-0000-4000-8000-000000000000");
        assert_eq!(super::text(u128::MAX, 8), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}

//! What the compiler says about the likeliest mistakes, in our words.

#[test]
fn mistakes_are_told_in_our_words() {
    trybuild::TestCases::new().compile_fail("tests/compile-fail/*.rs");
}

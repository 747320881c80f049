// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A small circuit with everything that a proof system can get wrong about order: two public
// outputs, one public and two private inputs, constraints with a linear right side, squares
// (the same wire in A and in B), sums with negative coefficients, and constants.
pragma circom 2.0.0;

template Polynomial(steps) {
    signal input y;
    signal input x;
    signal input a;
    signal output mixed;
    signal output tower;

    signal square;
    signal cube;
    signal b;
    square <== x * x;
    cube <== square * x;
    b <== y - cube + a;
    mixed <== (square - 3 * a) * (b + 7);

    signal level[steps + 1];
    level[0] <== x - a;
    for (var i = 0; i < steps; i++) {
        level[i + 1] <== level[i] * level[i] - i;
    }
    tower <== level[steps];
}

component main { public [y] } = Polynomial(20);

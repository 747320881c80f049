// SPDX-License-Identifier: MIT OR Apache-2.0
//
// A circuit for what a witness program can be given and can say: arrays of one and of two
// dimensions, a component that asserts, a value that is computed and not constrained, and a log of
// a secret, which must stay where it is.
pragma circom 2.0.0;

template Below(bound) {
    signal input in;
    signal output out;
    assert(in < bound);
    out <== in * in;
}

template Inputs(rows, columns) {
    signal input grid[rows][columns];
    signal input row[columns];
    signal input scalar;
    signal output sum;
    signal output quotient;

    component below = Below(1000);
    below.in <== scalar;
    log("the scalar is", scalar);

    signal products[rows][columns];
    var total = 0;
    for (var i = 0; i < rows; i++) {
        for (var j = 0; j < columns; j++) {
            products[i][j] <== grid[i][j] * row[j];
            total += products[i][j];
        }
    }
    sum <== total + below.out;

    // By hint: the quotient times the row's first is the sum.
    quotient <-- sum / row[0];
    quotient * row[0] === sum;
}

component main { public [scalar] } = Inputs(3, 4);

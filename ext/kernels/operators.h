/* The operators of the domain `omni`, version 1. Their formulas stand at the head of each file. */
#ifndef OMNI_OPERATORS_H
#define OMNI_OPERATORS_H

#include "operator.h"

extern const Operator snake_operator;
extern const Operator add_snake_operator;
extern const Operator shuffle_snake_operator;
extern const Operator qsnake_uint8_operator;
extern const Operator qsnake_int8_operator;
extern const Operator qadd_snake_uint8_operator;
extern const Operator qadd_snake_int8_operator;
extern const Operator qshuffle_snake_uint8_operator;
extern const Operator qshuffle_snake_int8_operator;
extern const Operator conv1d_operator;
extern const Operator qconv1d_operator;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#include "util/err.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(util_err, either_sign_gives_name_and_sentence)
{
	cr_assert_str_eq(err_name(-ENOSPC), "ENOSPC");
	cr_assert_str_eq(err_name(ENOSPC), "ENOSPC");
	cr_assert_str_eq(err_sentence(-ENOSPC), "no space left on device");
	cr_assert_str_eq(err_sentence(ENOSPC), "no space left on device");
	cr_assert_str_eq(err_name(0), "OK");
}

Test(util_err, every_number_has_a_text)
{
	for (int e = -5000; e <= 5000; e++) {
		cr_assert(strlen(err_name(e)) > 1);
		cr_assert(strlen(err_sentence(e)) > 1);
	}
	cr_assert_str_eq(err_name(-4095), "errno 4095");
	cr_assert_str_eq(err_sentence(4095), "errno 4095");
	cr_assert_str_eq(err_name(-2147483647 - 1), "errno 2147483648");
}
